// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/control_loop.h"

#include <gtest/gtest.h>

#include <thread>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

TEST(ControlLoop, AnswersOtherThreadsInItsOwn)
{
    const auto loop = *ControlLoop::create();
    std::thread runner([&] { loop->run(); });
    const auto id = runner.get_id();
    const auto answer = loop->call([] { return std::this_thread::get_id(); });
    loop->stop();
    runner.join();
    EXPECT_EQ(answer, id);
}

TEST(ControlLoop, WhoAsksAfterTheEndGetsNoAnswerInsteadOfWaiting)
{
    const auto loop = *ControlLoop::create();
    loop->stop();
    loop->run();
    EXPECT_EQ(loop->call([] { return 1; }), std::nullopt);
}

TEST(ControlLoop, AQuestionThatIsQueuedAtTheEndIsAnsweredWithNothing)
{
    const auto loop = *ControlLoop::create();
    std::optional<int> answer = 7;
    std::thread asker([&] { answer = loop->call([] { return 1; }); });
    std::this_thread::sleep_for(50ms); // it may also ask later; the answer is the same
    loop->end();
    asker.join();
    EXPECT_EQ(answer, std::nullopt);
}

TEST(ControlLoop, RunsTimersInOrderAndRepeats)
{
    const auto loop = *ControlLoop::create();
    std::string seen;
    loop->after(20ms, [&] { seen += 'b'; });
    loop->after(1ms, [&] { seen += 'a'; });
    int beats = 0;
    loop->every(5ms, [&] {
        if (++beats == 20)
            loop->stop();
    });
    loop->run();
    EXPECT_EQ(seen, "ab");
    EXPECT_EQ(beats, 20);
}

TEST(ControlLoop, WatchesADescriptorOnceWhateverIsLeftToRead)
{
    const auto loop = *ControlLoop::create();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    int seen = 0;
    const auto look = [&] { ++seen; };
    loop->watch_once(ends[0], look);
    ASSERT_EQ(::write(ends[1], "x", 1), 1);
    loop->after(20ms, [&] {
        EXPECT_EQ(seen, 1);
        loop->watch_once(ends[0], look);
    });
    loop->after(40ms, [&] { loop->stop(); });
    loop->run();
    EXPECT_EQ(seen, 2);
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(ControlLoop, WatchesDescriptors)
{
    const auto loop = *ControlLoop::create();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const UniqueFd reader(ends[0]), writer(ends[1]);
    char byte = 0;
    loop->watch(reader.get(), [&] {
        EXPECT_EQ(::read(reader.get(), &byte, 1), 1);
        loop->stop();
    });
    ASSERT_EQ(::write(writer.get(), "x", 1), 1);
    loop->run();
    EXPECT_EQ(byte, 'x');
}

} // namespace
} // namespace bulkhead::agent
