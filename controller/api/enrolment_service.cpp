// SPDX-License-Identifier: Apache-2.0
#include "common/core/log.h"
#include "controller/api/caller.h"
#include "controller/api/services.h"

namespace bulkhead::controller {
namespace {

class EnrolmentService final : public v1::Enrolment::Service {
public:
    explicit EnrolmentService(ApiParts parts) : parts_(parts) {}

    grpc::Status Enrol(grpc::ServerContext* context, const v1::EnrolRequest* request, v1::EnrolReply* reply) override
    {
        auto enrolled = parts_.enroller.enrol(*request);
        if (!enrolled) {
            log_warning("{}: enrolment refused: {}", context->peer(), enrolled.error().message);
            return to_grpc(enrolled.error());
        }
        parts_.feed.notify();
        *reply = std::move(*enrolled);
        return grpc::Status::OK;
    }

private:
    ApiParts parts_;
};

} // namespace

std::unique_ptr<grpc::Service> make_enrolment_service(ApiParts parts)
{
    return std::make_unique<EnrolmentService>(parts);
}

} // namespace bulkhead::controller
