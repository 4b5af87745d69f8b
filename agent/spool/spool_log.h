// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/losses.h"
#include "agent/spool/recovery.h"
#include "agent/spool/segment.h"
#include "agent/spool/spool.h"
#include "agent/spool/state_file.h"
#include "common/core/clock.h"

#include <condition_variable>
#include <deque>
#include <mutex>

namespace bulkhead::agent {

class SpoolLog final : public Spool {
public:
    // `lock` holds the folder's lock for as long as this lives; `dir` is open on it.
    SpoolLog(FileOperations& files, SpoolOptions options, UniqueFd lock, UniqueFd dir, StateFile state,
             Recovered recovered);
    ~SpoolLog() override;

    Status append_all(std::vector<v1::Record> records) override;
    Status sync() override;
    Result<std::vector<v1::Record>> read(std::uint64_t after, std::size_t limit,
                                         std::chrono::milliseconds timeout) override;
    Status acknowledge(std::uint64_t seq) override;

    [[nodiscard]] std::uint64_t acknowledged() const override;
    [[nodiscard]] std::uint64_t first_seq() const override;
    [[nodiscard]] std::uint64_t next_seq() const override;
    [[nodiscard]] std::uint64_t bytes() const override;
    [[nodiscard]] std::uint64_t lost() const override;

private:
    // Frames for the next numbers that fit into the last segment, not written yet.
    struct Group {
        std::vector<v1::Record*> records; // borrowed
        std::string frames;
        std::vector<std::size_t> sizes;
    };

    // All below with mutex_ held, unless said otherwise.
    Status add(v1::Record& record, Group& group);
    Status write_group(Group& group);
    Status write_or_lose(v1::Record& record);
    Status write(v1::Record& record);
    [[nodiscard]] bool fits(const Group& group, std::size_t frame_bytes) const;
    Status make_room(std::size_t frame_bytes);
    [[nodiscard]] bool decide_whether_flows_yield(const Group& group);
    Status roll();
    void drop_oldest();
    void lose(std::uint64_t from, std::uint64_t to, const std::vector<HeldGap>& gaps);
    Status report_losses(std::int64_t time_us);
    Status report_yielded(std::int64_t time_us);
    Status write_gap(const v1::Lost& lost, std::int64_t time_us);
    Status save_state();
    void skip_numbers_to(std::uint64_t next_seq);
    void replace_damaged(const std::shared_ptr<SegmentFile>& segment);
    [[nodiscard]] std::shared_ptr<SegmentFile> newest_segment() const;
    [[nodiscard]] std::shared_ptr<SegmentFile> segment_of(std::uint64_t seq) const; // or the next one held

    Status sync_records(); // without mutex_

    FileOperations& files_;
    const SpoolOptions options_;
    const UniqueFd lock_, dir_;

    std::mutex sync_mutex_; // taken before mutex_
    mutable std::mutex mutex_;
    std::condition_variable appended_;
    StateFile state_file_;
    std::deque<std::shared_ptr<SegmentFile>> segments_;
    std::vector<std::shared_ptr<SegmentFile>> unsynced_; // rolled since the last sync
    bool dir_changed_ = true;
    Losses losses_;
    bool flows_yield_ = false;  // as the log says
    std::uint64_t yielded_ = 0; // of which no gap record tells yet
    MonotonicTime tell_yielded_at_{};
    bool stamped_ = false;
    v1::Record stamp_; // host and ids of the newest record, for gap records
    std::uint64_t acknowledged_ = 0, next_ = 1, durable_next_ = 1, bytes_ = 0, lost_ = 0;
};

} // namespace bulkhead::agent
