// SPDX-License-Identifier: Apache-2.0
#include "controller/ingest/ingest_writer.h"

#include "common/core/log.h"

#include <limits>

namespace bulkhead::controller {
namespace {

constexpr std::size_t max_batches_together = 64;

v1::Record gap_instead_of(const v1::Record& record)
{
    v1::Record gap;
    gap.set_time_us(record.time_us());
    gap.set_kind(v1::Record::GAP);
    gap.set_seq(record.seq());
    gap.set_count(1);
    auto& lost = *gap.mutable_lost();
    lost.set_count(1);
    lost.set_where("controller");
    lost.set_from_seq(record.seq());
    lost.set_to_seq(record.seq());
    return gap;
}

} // namespace

Status claim_batch(AgentBatch& batch, const std::string& host)
{
    if (static_cast<int>(batch.records.size()) > max_batch_records)
        return fail(ErrorKind::invalid, "{} records in a batch; at most {} are taken", batch.records.size(),
                    max_batch_records);
    std::uint64_t before = 0;
    for (auto& record : batch.records) {
        if (record.seq() <= before || record.seq() > std::numeric_limits<std::int64_t>::max())
            return fail(ErrorKind::invalid, "record number {} after {}", record.seq(), before);
        before = record.seq();
        if (record.ByteSizeLong() > max_record_bytes) {
            log_warning("{}: record {} has {} bytes and is kept as a gap", host, record.seq(), record.ByteSizeLong());
            record = gap_instead_of(record);
        }
        record.set_host(host);
        record.set_agent_id(batch.agent_id);
        if (record.has_audit())
            record.mutable_audit()->set_actor(host);
    }
    return {};
}

IngestWriter::~IngestWriter()
{
    stop();
}

void IngestWriter::start()
{
    thread_ = std::thread([this] { run(); });
}

void IngestWriter::stop()
{
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_one();
    }
    if (thread_.joinable())
        thread_.join();
}

void IngestWriter::submit(AgentBatch batch, Done done)
{
    {
        const std::lock_guard lock(mutex_);
        if (!stopping_) {
            jobs_.push_back({std::move(batch), std::move(done)});
            wake_.notify_one();
            return;
        }
    }
    done(fail(ErrorKind::unreachable, "the controller stops"));
}

void IngestWriter::run()
{
    for (;;) {
        std::deque<Job> jobs;
        {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
            if (jobs_.empty())
                return;
            while (!jobs_.empty() && jobs.size() < max_batches_together) {
                jobs.push_back(std::move(jobs_.front()));
                jobs_.pop_front();
            }
        }
        store(jobs);
    }
}

void IngestWriter::store(std::deque<Job>& jobs)
{
    std::vector<AgentBatch> batches;
    batches.reserve(jobs.size());
    for (auto& job : jobs)
        batches.push_back(std::move(job.batch));
    const auto outcomes = store_.append(batches);
    if (!outcomes) {
        log_error("records are not stored and not acknowledged: {}", outcomes.error().message);
        for (auto& job : jobs)
            job.done(tl::unexpected(outcomes.error()));
        return;
    }
    feed_.notify();
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        const auto& outcome = (*outcomes)[i];
        if (outcome.missing != 0)
            log_warning("{}: {} record number(s) before {} never came", batches[i].agent_id, outcome.missing,
                        outcome.last_seq);
        jobs[i].done(outcome.last_seq);
    }
}

} // namespace bulkhead::controller
