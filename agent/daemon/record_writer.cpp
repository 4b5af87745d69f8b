// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/record_writer.h"

#include "common/core/log.h"

#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr MonotonicTime complain_every = 30s;
constexpr MonotonicTime reopen_every = 5s;
constexpr std::size_t most_collected = 64;

std::int64_t micros(WallTime time)
{
    return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

class PatientSpool final : public Spool {
public:
    PatientSpool(std::function<Result<std::unique_ptr<Spool>>()> open, const Clock& clock)
        : open_(std::move(open)), clock_(clock)
    {
        try_open();
    }

    Status append_all(std::vector<v1::Record> records) override
    {
        if (const auto spool = get())
            return spool->append_all(std::move(records));
        const std::lock_guard lock(mutex_);
        missed_ += records.size();
        return tl::unexpected(why_);
    }

    Status sync() override
    {
        if (const auto spool = get())
            return spool->sync();
        if (clock_.monotonic() >= next_try_)
            try_open();
        return {};
    }

    Result<std::vector<v1::Record>> read(std::uint64_t after, std::size_t limit,
                                         std::chrono::milliseconds timeout) override
    {
        if (const auto spool = get())
            return spool->read(after, limit, timeout);
        std::this_thread::sleep_for(timeout);
        return std::vector<v1::Record>{};
    }

    Status acknowledge(std::uint64_t seq) override
    {
        const auto spool = get();
        return spool ? spool->acknowledge(seq) : Status{};
    }

    [[nodiscard]] std::uint64_t acknowledged() const override { return ask(&Spool::acknowledged, 0); }
    [[nodiscard]] std::uint64_t first_seq() const override { return ask(&Spool::first_seq, 1); }
    [[nodiscard]] std::uint64_t next_seq() const override { return ask(&Spool::next_seq, 1); }
    [[nodiscard]] std::uint64_t bytes() const override { return ask(&Spool::bytes, 0); }
    [[nodiscard]] std::uint64_t lost() const override
    {
        const auto held = ask(&Spool::lost, 0);
        const std::lock_guard lock(mutex_);
        return held + missed_;
    }

private:
    std::shared_ptr<Spool> get() const
    {
        const std::lock_guard lock(mutex_);
        return spool_;
    }

    std::uint64_t ask(std::uint64_t (Spool::*question)() const, std::uint64_t otherwise) const
    {
        const auto spool = get();
        return spool ? (spool.get()->*question)() : otherwise;
    }

    void try_open()
    {
        auto opened = open_();
        const std::lock_guard lock(mutex_);
        next_try_ = clock_.monotonic() + reopen_every;
        if (!opened) {
            if (why_.message != opened.error().message)
                log_error("the spool cannot be opened; records are counted and lost until it can: {}",
                          opened.error().message);
            why_ = opened.error();
            return;
        }
        spool_ = std::move(*opened);
        if (missed_ == 0)
            return;
        log_warning("the spool is open; {} records were lost before", missed_);
        v1::Record gap;
        gap.set_time_us(micros(clock_.wall()));
        gap.set_kind(v1::Record::GAP);
        gap.set_count(1);
        gap.mutable_lost()->set_count(missed_);
        gap.mutable_lost()->set_where("agent");
        if (spool_->append(std::move(gap)))
            missed_ = 0;
    }

    std::function<Result<std::unique_ptr<Spool>>()> open_;
    const Clock& clock_;
    mutable std::mutex mutex_;
    std::shared_ptr<Spool> spool_;
    std::uint64_t missed_ = 0;
    MonotonicTime next_try_{0};
    Error why_;
};

} // namespace

void RecordWriter::set_origin(std::string host, std::string agent_id, std::string boot_id)
{
    const std::lock_guard lock(mutex_);
    host_ = std::move(host);
    agent_id_ = std::move(agent_id);
    boot_id_ = std::move(boot_id);
}

// With mutex_ held.
void RecordWriter::stamp(v1::Record& record)
{
    record.set_host(host_);
    record.set_agent_id(agent_id_);
    record.set_boot_id(boot_id_);
    if (record.time_us() == 0)
        record.set_time_us(micros(clock_.wall()));
    if (record.count() == 0)
        record.set_count(1);
}

void RecordWriter::write(v1::Record&& record)
{
    {
        const std::lock_guard lock(mutex_);
        stamp(record);
    }
    if (const auto appended = spool_.append(std::move(record)); !appended)
        complain(appended.error());
}

void RecordWriter::collect(v1::Record&& record)
{
    bool many = false;
    {
        const std::lock_guard lock(mutex_);
        stamp(record);
        collected_.push_back(std::move(record));
        many = collected_.size() >= most_collected;
    }
    if (many)
        flush();
}

void RecordWriter::flush()
{
    const std::lock_guard one_after_the_other(flush_mutex_);
    std::vector<v1::Record> records;
    {
        const std::lock_guard lock(mutex_);
        records.swap(collected_);
    }
    if (records.empty())
        return;
    if (const auto appended = spool_.append_all(std::move(records)); !appended)
        complain(appended.error());
}

void RecordWriter::audit(const std::string& action, const std::string& object, const std::string& message)
{
    v1::Record record;
    record.set_kind(v1::Record::AUDIT);
    {
        const std::lock_guard lock(mutex_);
        record.mutable_audit()->set_actor(host_);
    }
    record.mutable_audit()->set_action(action);
    record.mutable_audit()->set_object(object);
    record.mutable_audit()->set_message(message);
    write(std::move(record));
}

void RecordWriter::complain(const Error& error)
{
    const auto now = clock_.monotonic();
    {
        const std::lock_guard lock(mutex_);
        if (now < silent_until_)
            return;
        silent_until_ = now + complain_every;
    }
    log_error("records are being lost ({} so far): {}", spool_.lost(), error.message);
}

std::unique_ptr<Spool> make_patient_spool(std::function<Result<std::unique_ptr<Spool>>()> open, const Clock& clock)
{
    return std::make_unique<PatientSpool>(std::move(open), clock);
}

} // namespace bulkhead::agent
