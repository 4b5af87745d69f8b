// SPDX-License-Identifier: Apache-2.0
#include "controller/ingest/ingest_stream.h"

namespace bulkhead::controller {
namespace {

class IngestStream final : public IngestReactor {
public:
    IngestStream(std::string agent_id, const Inventory& inventory, IngestWriter& writer)
        : agent_id_(std::move(agent_id)), inventory_(inventory), writer_(writer)
    {
        StartRead(&incoming_);
    }

    void OnReadDone(bool ok) override
    {
        if (!ok) {
            Finish(grpc::Status::OK);
            return;
        }
        const auto host = inventory_.workload_of(agent_id_);
        if (!host) {
            Finish({grpc::StatusCode::PERMISSION_DENIED, "this agent's certificate is no longer accepted"});
            return;
        }
        AgentBatch batch{agent_id_, {}};
        batch.records.reserve(static_cast<std::size_t>(incoming_.records_size()));
        for (auto& record : *incoming_.mutable_records())
            batch.records.push_back(std::move(record));
        incoming_.Clear();
        if (auto claimed = claim_batch(batch, *host); !claimed) {
            Finish({grpc::StatusCode::INVALID_ARGUMENT, claimed.error().message});
            return;
        }
        // Nothing is read or written until the writer answers, so this object lives until then.
        writer_.submit(std::move(batch), [this](Result<std::uint64_t> stored) { on_stored(std::move(stored)); });
    }

    void OnWriteDone(bool ok) override
    {
        if (ok)
            StartRead(&incoming_);
        else
            Finish({grpc::StatusCode::UNAVAILABLE, "the acknowledgement could not be sent"});
    }

    void OnDone() override { delete this; }

private:
    void on_stored(Result<std::uint64_t> stored)
    {
        if (!stored) {
            Finish({grpc::StatusCode::UNAVAILABLE, stored.error().message});
            return;
        }
        ack_.set_seq(*stored);
        StartWrite(&ack_);
    }

    const std::string agent_id_;
    const Inventory& inventory_;
    IngestWriter& writer_;
    v1::RecordBatch incoming_;
    v1::IngestAck ack_;
};

class RefusedStream final : public IngestReactor {
public:
    explicit RefusedStream(const grpc::Status& status) { Finish(status); }
    void OnDone() override { delete this; }
};

} // namespace

IngestReactor* open_ingest(std::string agent_id, const Inventory& inventory, IngestWriter& writer)
{
    return std::make_unique<IngestStream>(std::move(agent_id), inventory, writer).release();
}

IngestReactor* refuse_ingest(const grpc::Status& status)
{
    return std::make_unique<RefusedStream>(status).release();
}

} // namespace bulkhead::controller
