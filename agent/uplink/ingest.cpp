// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink/ingest.h"

#include "common/core/log.h"
#include "controller.grpc.pb.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t records_per_read = 500;
constexpr std::size_t bytes_per_batch = 1U << 20; // well below gRPC's default limit of 4 MiB
constexpr std::uint64_t window = 5'000;           // records sent and not acknowledged
constexpr auto wait_for_records = 200ms;

using Stream = grpc::ClientReaderWriter<v1::RecordBatch, v1::IngestAck>;

// Takes records from `records` at `next` until the batch is full. Records from before enrolment carry another agent id;
// the controller knows this host by the one that it gave.
v1::RecordBatch fill_batch(std::vector<v1::Record>& records, std::size_t& next, const std::string& agent_id)
{
    v1::RecordBatch batch;
    for (std::size_t bytes = 0; next < records.size() && bytes < bytes_per_batch; ++next) {
        bytes += records[next].ByteSizeLong();
        records[next].set_agent_id(agent_id);
        *batch.add_records() = std::move(records[next]);
    }
    return batch;
}

class Delivery {
public:
    Delivery(Stream& stream, Spool& spool, const std::string& agent_id, Cancellation& cancellation)
        : stream_(stream), spool_(spool), agent_id_(agent_id), cancellation_(cancellation), sent_(spool.acknowledged()),
          acknowledged_(sent_.load())
    {}

    void read_acknowledgements()
    {
        for (v1::IngestAck ack; stream_.Read(&ack);) {
            if (ack.seq() > acknowledged_) {
                if (const auto kept = spool_.acknowledge(ack.seq()); !kept)
                    log_warning("cannot note what the controller has: {}", kept.error().message);
                acknowledged_ = ack.seq();
            }
            cancellation_.notify();
        }
        over_ = true;
        cancellation_.notify();
    }

    void send()
    {
        while (!over_ && !cancellation_.cancelled()) {
            // The controller may know more than this folder does, when that was restored from a backup.
            sent_ = std::max<std::uint64_t>(sent_, acknowledged_);
            if (sent_ - acknowledged_ >= window) {
                cancellation_.wait(1s, [this] { return over_ || sent_ < acknowledged_ + window; });
                continue;
            }
            auto records = spool_.read(sent_, records_per_read, wait_for_records);
            if (!records) {
                log_warning("cannot read the spool: {}", records.error().message);
                cancellation_.sleep(1s);
                continue;
            }
            for (std::size_t next = 0; next < records->size();) {
                const auto batch = fill_batch(*records, next, agent_id_);
                sent_ = batch.records(batch.records_size() - 1).seq();
                if (!stream_.Write(batch))
                    return;
            }
        }
    }

private:
    Stream& stream_;
    Spool& spool_;
    const std::string& agent_id_;
    Cancellation& cancellation_;
    std::atomic<std::uint64_t> sent_, acknowledged_; // each written by one thread
    std::atomic<bool> over_{false};
};

} // namespace

grpc::Status deliver_records(const std::shared_ptr<grpc::Channel>& channel, Spool& spool, const std::string& agent_id,
                             Cancellation& cancellation)
{
    grpc::ClientContext context;
    const Cancellation::Scope scope(cancellation, context);
    const auto stub = v1::Agents::NewStub(channel);
    const auto stream = stub->Ingest(&context);
    Delivery delivery(*stream, spool, agent_id, cancellation);
    {
        const std::jthread reader([&] { delivery.read_acknowledgements(); });
        delivery.send(); // returns when the call is over or cancelled, and so does the reader then
    }
    return stream->Finish();
}

} // namespace bulkhead::agent
