// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/event_thread.h"
#include "agent/daemon/record_writer.h"
#include "tests/harness/fake_datapath.h"
#include "tests/unit/agent/memory_spool.h"
#include "tests/unit/events/assembler_fixture.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

// Rings of which the test sees what was written when their events are taken out.
class WatchedRings final : public test::FakeDatapath {
public:
    explicit WatchedRings(const test::MemorySpool& spool) : spool_(spool) {}

    Result<std::size_t> consume(const EventSink& sink, const Settle& settle, std::chrono::milliseconds wait) override
    {
        const auto delivered = FakeDatapath::consume(sink, settle, wait);
        if (*delivered > 0)
            written_when_taken_out = spool_.next_seq() - 1;
        else
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return delivered;
    }
    std::atomic<std::uint64_t> written_when_taken_out{0};

private:
    const test::MemorySpool& spool_;
};

bh_event established(std::uint64_t cookie)
{
    bh_event event{};
    event.type = BH_EVENT_ESTABLISHED;
    event.cookie = cookie;
    event.local = address("10.0.0.1");
    event.remote = address("10.0.0.2");
    event.local_port = 22;
    event.remote_port = 40000;
    event.protocol = IPPROTO_TCP;
    event.direction = BH_INBOUND;
    return event;
}

class Events : public ::testing::Test {
protected:
    test::FakeClock clock_;
    test::MemorySpool spool_;
    RecordWriter writer_{spool_, clock_};
    FakeProcesses processes_;
    WatchedRings rings_{spool_};
    std::unique_ptr<FlowAssembler> assembler_ =
        make_flow_assembler(clock_, processes_, [this](v1::Record&& record) { writer_.collect(std::move(record)); });
    EventThread thread_{rings_, *assembler_, [this] { writer_.flush(); }, [](const bh_event&) {}};
};

TEST_F(Events, AreRecordedBeforeTheyAreTakenOutOfTheRings)
{
    for (std::uint64_t cookie = 1; cookie <= 5; ++cookie)
        rings_.events.push_back(established(cookie));
    thread_.start();
    thread_.stop();
    EXPECT_EQ(rings_.written_when_taken_out, 5U);
    EXPECT_EQ(spool_.records.size(), 5U);
}

TEST_F(Events, WhatIsEmittedBesideTheThreadIsWrittenAtOnce)
{
    thread_.with([](FlowAssembler& assembler) { assembler.on_event(established(1)); });
    EXPECT_EQ(spool_.records.size(), 1U);
    const auto open = thread_.with([](FlowAssembler& assembler) { return assembler.open_flows(); });
    EXPECT_EQ(open, 1U);
    EXPECT_EQ(spool_.records.size(), 1U);
}

} // namespace
} // namespace bulkhead::agent
