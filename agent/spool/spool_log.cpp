// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/spool_log.h"

#include "agent/spool/record_frame.h"
#include "agent/spool/stretch.h"
#include "common/core/clock.h"
#include "common/core/log.h"
#include "common/record/utf8.h"

#include <algorithm>
#include <utility>

namespace bulkhead::agent {
namespace {

constexpr auto tell_yielded_every = std::chrono::minutes(1);

std::int64_t now_us()
{
    return std::chrono::duration_cast<std::chrono::microseconds>(system_clock().wall().time_since_epoch()).count();
}

// Not the end of a session that was cut, which is a violation like what was refused at a door.
bool is_mere_flow(const v1::Record& record)
{
    return record.kind() == v1::Record::FLOW && record.verdict() != v1::Record::DENIED &&
           record.verdict() != v1::Record::WOULD_DENY;
}

Result<std::string> frame_of(v1::Record& record, std::uint64_t seq)
{
    record.set_seq(seq);
    const auto payload = record.SerializeAsString();
    if (payload.empty() || payload.size() > max_payload_bytes)
        return fail(ErrorKind::failed, "spool: a record of {} bytes; at most {} fit", payload.size(),
                    max_payload_bytes);
    return encode_frame(payload, record.kind() == v1::Record::GAP);
}

} // namespace

SpoolLog::SpoolLog(FileOperations& files, SpoolOptions options, UniqueFd lock, UniqueFd dir, StateFile state,
                   Recovered recovered)
    : files_(files), options_(std::move(options)), lock_(std::move(lock)), dir_(std::move(dir)),
      state_file_(std::move(state)), segments_(std::move(recovered.segments)), acknowledged_(recovered.acknowledged),
      next_(recovered.next_seq), lost_(state_file_.state().lost)
{
    losses_.add_unnumbered(state_file_.state().unreported);
    for (const auto& range : recovered.lost) {
        losses_.add_range(range);
        lost_ += range.count;
    }
    for (const auto& segment : segments_)
        bytes_ += segment->bytes();
    unsynced_.assign(segments_.begin(), segments_.end()); // written by a process that may have died before its sync
}

SpoolLog::~SpoolLog()
{
    tell_yielded_at_ = {}; // now: sync() does it
    if (const auto status = sync(); !status)
        log_error("spool: {}", status.error().message);
}

Status SpoolLog::append_all(std::vector<v1::Record> records)
{
    for (auto& record : records)
        record::make_utf8(record);
    const std::lock_guard lock(mutex_);
    Status result;
    Group group;
    const auto note = [&result](Status status) {
        if (!status)
            result = std::move(status);
    };
    for (auto& record : records)
        note(add(record, group));
    note(write_group(group));
    appended_.notify_all();
    return result;
}

// To the group, or behind it.
Status SpoolLog::add(v1::Record& record, Group& group)
{
    stamp_.set_host(record.host());
    stamp_.set_agent_id(record.agent_id());
    stamp_.set_boot_id(record.boot_id());
    stamped_ = true;
    if (is_mere_flow(record) && decide_whether_flows_yield(group)) {
        if (yielded_++ == 0)
            tell_yielded_at_ = system_clock().monotonic() + tell_yielded_every;
        ++lost_;
        return {};
    }
    const bool reports_first = !losses_.empty() || (yielded_ != 0 && !flows_yield_);
    if (!reports_first && record.kind() != v1::Record::GAP) {
        const auto frame = frame_of(record, next_ + group.records.size());
        if (frame && fits(group, frame->size())) {
            group.records.push_back(&record);
            group.frames += *frame;
            group.sizes.push_back(frame->size());
            return {};
        }
    }
    auto before = write_group(group);
    auto status = write_or_lose(record);
    return status ? before : status;
}

// At once, or on a failing disk one by one.
Status SpoolLog::write_group(Group& group)
{
    const auto taken = std::exchange(group, {});
    if (taken.records.empty())
        return {};
    if (segments_.back()->append(files_, taken.frames, taken.sizes)) {
        bytes_ += taken.frames.size();
        next_ += taken.records.size();
        return {};
    }
    Status result;
    for (auto* record : taken.records)
        if (auto status = write_or_lose(*record); !status)
            result = std::move(status);
    return result;
}

Status SpoolLog::write_or_lose(v1::Record& record)
{
    auto status = report_losses(record.time_us());
    if (status && !flows_yield_)
        status = report_yielded(record.time_us());
    if (status)
        status = write(record);
    if (!status) {
        // A gap record that is lost itself must not take its count with it.
        losses_.add_unnumbered(1 + record.lost().count());
        ++lost_;
    }
    return status;
}

bool SpoolLog::fits(const Group& group, std::size_t frame_bytes) const
{
    const auto more = group.frames.size() + frame_bytes;
    return !segments_.empty() && segments_.back()->next_seq() == next_ &&
           segments_.back()->bytes() + more <= options_.segment_bytes && bytes_ + more <= options_.max_bytes;
}

bool SpoolLog::decide_whether_flows_yield(const Group& group)
{
    if (options_.flow_bytes == 0)
        return false;
    std::uint64_t waiting = group.frames.size();
    for (auto it = segments_.rbegin(); it != segments_.rend() && (*it)->next_seq() - 1 > acknowledged_; ++it)
        waiting += (*it)->bytes();
    const bool yield = waiting > (flows_yield_ ? options_.flow_bytes / 8 * 7 : options_.flow_bytes);
    if (yield && !flows_yield_)
        log_warning("spool: {} MiB wait for the controller: flows are lost from now on, so that nothing else is",
                    waiting >> 20);
    else if (!yield && flows_yield_)
        log_info("spool: the controller has taken enough: flows are recorded again");
    return flows_yield_ = yield;
}

Status SpoolLog::write(v1::Record& record)
{
    BULKHEAD_TRY(const auto frame, frame_of(record, next_));
    const bool is_gap = record.kind() == v1::Record::GAP;
    BULKHEAD_CHECK(make_room(frame.size()));
    BULKHEAD_CHECK(segments_.back()->append(files_, frame, is_gap ? &record.lost() : nullptr));
    bytes_ += frame.size();
    ++next_;
    return {};
}

Status SpoolLog::make_room(std::size_t frame_bytes)
{
    const bool usable = !segments_.empty() && segments_.back()->next_seq() == next_;
    const bool full = usable && segments_.back()->next_seq() > segments_.back()->first_seq() &&
                      segments_.back()->bytes() + frame_bytes > options_.segment_bytes;
    if (!usable || full) {
        BULKHEAD_CHECK(roll());
    }
    while (bytes_ + frame_bytes > options_.max_bytes && segments_.size() > 1)
        drop_oldest();
    return {};
}

Status SpoolLog::roll()
{
    BULKHEAD_TRY(auto segment, SegmentFile::create(files_, segment_path(options_.dir, next_), {next_, acknowledged_}));
    if (!segments_.empty())
        unsynced_.push_back(segments_.back());
    bytes_ += segment->bytes();
    segments_.push_back(std::move(segment));
    dir_changed_ = true;
    return {};
}

void SpoolLog::drop_oldest()
{
    const auto segment = segments_.front();
    // First, so that a restart does not take what was delivered for lost.
    if (auto saved = save_state(); !saved)
        log_error("spool: {}", saved.error().message);
    if (auto removed = files_.remove(segment->path()); !removed)
        log_error("spool: {}", removed.error().message);
    segments_.pop_front();
    std::erase(unsynced_, segment);
    bytes_ -= segment->bytes();
    if (segment->next_seq() > segment->first_seq())
        lose(segment->first_seq(), segment->next_seq() - 1, segment->gaps());
}

// Counts what of a range was not delivered. What gap records in it had told must be told again.
void SpoolLog::lose(std::uint64_t from, std::uint64_t to, const std::vector<HeldGap>& gaps)
{
    Losses::Range range{std::max(from, acknowledged_ + 1), to, 0};
    if (range.from > range.to)
        return;
    range.count = range.to - range.from + 1;
    lost_ += range.count;
    for (const auto& gap : gaps) {
        if (gap.seq < range.from || gap.seq > to)
            continue;
        range.count += gap.lost.count();
        if (gap.lost.from_seq() != 0)
            range.from = std::min(range.from, gap.lost.from_seq());
    }
    losses_.add_range(range);
}

Status SpoolLog::report_losses(std::int64_t time_us)
{
    while (!losses_.empty()) {
        const auto lost = losses_.take();
        if (auto status = write_gap(lost, time_us); !status) {
            losses_.put_back(lost);
            return status;
        }
    }
    return {};
}

// Not one by one: these gap records are in the room that flows have left to others.
Status SpoolLog::report_yielded(std::int64_t time_us)
{
    if (yielded_ == 0)
        return {};
    v1::Lost lost;
    lost.set_count(yielded_);
    lost.set_where("spool");
    BULKHEAD_CHECK(write_gap(lost, time_us));
    yielded_ = 0;
    tell_yielded_at_ = system_clock().monotonic() + tell_yielded_every;
    return {};
}

Status SpoolLog::write_gap(const v1::Lost& lost, std::int64_t time_us)
{
    auto gap = stamp_;
    gap.set_kind(v1::Record::GAP);
    gap.set_time_us(time_us);
    *gap.mutable_lost() = lost;
    gap.set_count(1);
    return write(gap);
}

Status SpoolLog::save_state()
{
    return state_file_.write({acknowledged_, next_, lost_, losses_.unnumbered() + yielded_});
}

Status SpoolLog::sync_records()
{
    const std::lock_guard one_at_a_time(sync_mutex_);
    std::vector<std::shared_ptr<SegmentFile>> segments;
    std::shared_ptr<SegmentFile> newest;
    std::uint64_t target = 0;
    bool dir_changed = false;
    {
        const std::lock_guard lock(mutex_);
        if (durable_next_ == next_ && unsynced_.empty() && !dir_changed_)
            return {};
        segments = unsynced_;
        newest = newest_segment();
        if (newest)
            segments.push_back(newest);
        target = next_;
        dir_changed = dir_changed_;
    }
    for (const auto& segment : segments) {
        if (auto status = files_.sync(segment->fd()); !status)
            return tl::unexpected(std::move(status).error().within(segment->path()));
    }
    if (dir_changed) {
        BULKHEAD_CHECK(files_.sync(dir_.get()));
    }
    const std::lock_guard lock(mutex_);
    durable_next_ = target;
    std::erase_if(unsynced_, [&](const auto& segment) {
        return std::find(segments.begin(), segments.end(), segment) != segments.end();
    });
    // The name of a segment that was begun meanwhile is synced next time.
    dir_changed_ = dir_changed_ && (!dir_changed || newest_segment() != newest);
    return {};
}

Status SpoolLog::sync()
{
    Status reported;
    {
        const std::lock_guard lock(mutex_);
        const bool tell_yielded = yielded_ != 0 && tell_yielded_at_ <= system_clock().monotonic();
        if (stamped_ && (tell_yielded || !losses_.empty())) {
            reported = report_losses(now_us());
            if (reported && tell_yielded)
                reported = report_yielded(now_us());
            appended_.notify_all();
        }
    }
    BULKHEAD_CHECK(sync_records());
    {
        const std::lock_guard lock(mutex_);
        BULKHEAD_CHECK(save_state());
    }
    BULKHEAD_CHECK(state_file_.sync());
    return reported;
}

std::shared_ptr<SegmentFile> SpoolLog::newest_segment() const
{
    return segments_.empty() ? nullptr : segments_.back();
}

std::shared_ptr<SegmentFile> SpoolLog::segment_of(std::uint64_t seq) const
{
    const auto found = std::partition_point(segments_.begin(), segments_.end(),
                                            [&](const auto& segment) { return segment->next_seq() <= seq; });
    return found == segments_.end() ? nullptr : *found;
}

Result<std::vector<v1::Record>> SpoolLog::read(std::uint64_t after, std::size_t limit,
                                               std::chrono::milliseconds timeout)
{
    std::vector<v1::Record> result;
    std::unique_lock lock(mutex_);
    const auto available = [&] { return next_ - 1 > after && segment_of(after + 1) != nullptr; };
    if (limit == 0 || !appended_.wait_for(lock, timeout, available))
        return result;
    if (durable_next_ < next_) {
        lock.unlock();
        // On a failing disk records go out all the same: they matter more than their numbers after a power failure.
        if (auto status = sync_records(); !status)
            log_error("spool: {}", status.error().message);
        lock.lock();
    }
    const auto end = next_;
    auto next = after + 1;
    std::size_t bytes = 0;
    while (result.size() < limit && bytes < read_chunk_bytes && next < end) {
        const auto segment = segment_of(next);
        if (segment == nullptr)
            break;
        const auto from = std::max(next, segment->first_seq());
        const Stretch stretch{segment->position_before(from),     segment->bytes(),      from,
                              std::min(segment->next_seq(), end), limit - result.size(), read_chunk_bytes - bytes};
        lock.unlock();
        auto read = read_stretch(files_, segment->fd(), stretch);
        lock.lock();
        bytes += read.bytes;
        next = from + read.records.size();
        std::move(read.records.begin(), read.records.end(), std::back_inserter(result));
        if (read.bad_seq && read.unparsable) {
            log_error("spool: {}: number {} holds no record", segment->path(), *read.bad_seq);
            lose(*read.bad_seq, *read.bad_seq, {});
            next = *read.bad_seq + 1;
        } else if (read.bad_seq) {
            replace_damaged(segment);
            break;
        }
    }
    return result;
}

void SpoolLog::replace_damaged(const std::shared_ptr<SegmentFile>& segment)
{
    const auto place = std::find(segments_.begin(), segments_.end(), segment);
    if (place == segments_.end())
        return; // it was dropped meanwhile
    auto repaired = repair_segment(files_, options_.dir, segment->path());
    if (!repaired) {
        log_error("spool: {}: {}", segment->path(), repaired.error().message);
        repaired = nullptr;
    }
    const auto kept_until = *repaired ? (*repaired)->next_seq() : segment->first_seq();
    bytes_ -= segment->bytes();
    if (*repaired) {
        bytes_ += (*repaired)->bytes();
        *place = *repaired;
    } else {
        segments_.erase(place);
    }
    if (kept_until < segment->next_seq())
        lose(kept_until, segment->next_seq() - 1, segment->gaps());
}

Status SpoolLog::acknowledge(std::uint64_t seq)
{
    const std::lock_guard lock(mutex_);
    if (seq <= acknowledged_)
        return {};
    if (seq > max_seq)
        return fail(ErrorKind::invalid, "spool: acknowledged number {} cannot be", seq);
    if (seq >= next_)
        skip_numbers_to(seq + 1);
    acknowledged_ = seq;
    return save_state();
}

void SpoolLog::skip_numbers_to(std::uint64_t next_seq)
{
    log_warning("spool: the controller has records up to {}, this folder only {}: it was restored or made anew; "
                "numbering goes on at {}",
                next_seq - 1, next_ - 1, next_seq);
    // Under these numbers the controller has other records and takes ours for repetitions.
    if (next_ > 1)
        lose(acknowledged_ + 1, next_ - 1, {});
    next_ = next_seq;
}

std::uint64_t SpoolLog::acknowledged() const
{
    const std::lock_guard lock(mutex_);
    return acknowledged_;
}

std::uint64_t SpoolLog::first_seq() const
{
    const std::lock_guard lock(mutex_);
    const auto first = segment_of(0);
    return first == nullptr || first->next_seq() == first->first_seq() ? next_ : first->first_seq();
}

std::uint64_t SpoolLog::next_seq() const
{
    const std::lock_guard lock(mutex_);
    return next_;
}

std::uint64_t SpoolLog::bytes() const
{
    const std::lock_guard lock(mutex_);
    return bytes_;
}

std::uint64_t SpoolLog::lost() const
{
    const std::lock_guard lock(mutex_);
    return lost_;
}

} // namespace bulkhead::agent
