// SPDX-License-Identifier: Apache-2.0
#include "controller/api/caller.h"
#include "controller/api/services.h"
#include "controller/distribute/session_stream.h"
#include "controller/ingest/ingest_stream.h"

namespace bulkhead::controller {
namespace {

// The streams are callbacks, so that a thousand agents cost no thousand threads.
using AgentsBase = v1::Agents::WithCallbackMethod_Session<v1::Agents::WithCallbackMethod_Ingest<v1::Agents::Service>>;

class AgentsService final : public AgentsBase {
public:
    explicit AgentsService(ApiParts parts) : parts_(parts) {}

    SessionReactor* Session(grpc::CallbackServerContext* context) override
    {
        auto id = require_agent(*context, parts_.inventory);
        return id ? open_session(std::move(*id), parts_.distributor) : refuse_session(id.error());
    }

    IngestReactor* Ingest(grpc::CallbackServerContext* context) override
    {
        auto id = require_agent(*context, parts_.inventory);
        return id ? open_ingest(std::move(*id), parts_.inventory, parts_.writer) : refuse_ingest(id.error());
    }

    grpc::Status Renew(grpc::ServerContext* context, const v1::RenewRequest* request, v1::EnrolReply* reply) override
    {
        const auto id = require_agent(*context, parts_.inventory);
        if (!id)
            return id.error();
        auto renewed = parts_.enroller.renew(*id, *request);
        if (!renewed)
            return to_grpc(renewed.error());
        parts_.feed.notify();
        *reply = std::move(*renewed);
        return grpc::Status::OK;
    }

private:
    ApiParts parts_;
};

} // namespace

std::unique_ptr<grpc::Service> make_agents_service(ApiParts parts)
{
    return std::make_unique<AgentsService>(parts);
}

} // namespace bulkhead::controller
