// SPDX-License-Identifier: Apache-2.0
#include "faulty_files.h"
#include "spool_folder.h"

#include <map>
#include <random>
#include <set>

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t segment_bytes = 1024;
constexpr std::uint64_t max_bytes = 6000;

// Plays the agent and a controller that comes and goes, on a disk that fills up and a process that is killed; then
// asks: was every record delivered, or counted in a gap that was delivered?
class History {
public:
    explicit History(unsigned seed) : random_(seed) { open(); }

    void step()
    {
        switch (random_() % 12) {
        case 0: restart(); break;
        case 1: files_->room = random_() % 3000; break;
        case 2: files_->room = std::numeric_limits<std::uint64_t>::max(); break;
        case 3: (void)spool_->sync(); break;
        case 4:
        case 5: deliver(); break;
        default: append(); break;
        }
    }

    void finish()
    {
        files_->room = std::numeric_limits<std::uint64_t>::max();
        append();
        while (cursor_ + 1 < spool_->next_seq() && !testing::Test::HasFatalFailure())
            deliver();
        std::uint64_t missing = 0;
        for (std::uint64_t number = 1; number <= appended_; ++number)
            missing += received_.contains(number) ? 0 : 1;
        EXPECT_GE(told_, missing) << "no silent loss";
        // A gap record that was lost itself counts as a record, so a little more may be told than was lost.
        EXPECT_LE(told_, missing + gaps_written());
    }

private:
    void open()
    {
        files_ = std::make_unique<FaultyFiles>();
        auto spool = open_spool({folder_.path(), max_bytes, segment_bytes}, *files_);
        ASSERT_TRUE(spool) << spool.error().message;
        spool_ = *std::move(spool);
    }
    void restart()
    {
        (void)spool_->sync();
        spool_.reset();
        open();
        cursor_ = spool_->acknowledged();
    }
    void append() { (void)spool_->append(numbered(++appended_)); }
    void deliver()
    {
        const auto records = spool_->read(cursor_, 1 + random_() % 40, std::chrono::milliseconds(0));
        ASSERT_TRUE(records);
        for (const auto& record : *records) {
            ASSERT_GT(record.seq(), cursor_);
            cursor_ = record.seq();
            // The controller's side: a number is one record for ever.
            const auto [place, fresh] = by_seq_.emplace(record.seq(), record.SerializeAsString());
            ASSERT_EQ(place->second, record.SerializeAsString()) << "number " << record.seq() << " given out twice";
            if (!fresh)
                continue;
            if (record.kind() == v1::Record::GAP)
                told_ += record.lost().count();
            else
                received_.insert(record.policy_version());
        }
        if (random_() % 3 != 0)
            (void)spool_->acknowledge(cursor_);
        else
            cursor_ = spool_->acknowledged();
    }
    [[nodiscard]] std::uint64_t gaps_written() const { return spool_->next_seq() - 1; }

    std::mt19937 random_;
    SpoolFolder folder_;
    std::unique_ptr<FaultyFiles> files_;
    std::unique_ptr<Spool> spool_;
    std::uint64_t appended_ = 0, cursor_ = 0, told_ = 0;
    std::map<std::uint64_t, std::string> by_seq_;
    std::set<std::uint64_t> received_;
};

TEST(RandomHistory, EveryRecordIsDeliveredOrCounted)
{
    const auto first_seed = std::random_device{}();
    for (unsigned i = 0; i < 150; ++i) {
        SCOPED_TRACE("seed " + std::to_string(first_seed + i));
        History history(first_seed + i);
        for (int step = 0; step < 400 && !testing::Test::HasFatalFailure(); ++step)
            history.step();
        history.finish();
        if (testing::Test::HasFailure())
            return;
    }
}

} // namespace
} // namespace bulkhead::agent
