// SPDX-License-Identifier: Apache-2.0
// The places of what passes the guard, when somebody wants them all.
#include "tests/bpf/forwarding_fixture.h"
#include "tests/bpf/frames.h"

#include <netinet/in.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <thread>

namespace bulkhead::test {
namespace {

class ExchangeRoom : public ForwardingTest {
protected:
    void SetUp() override
    {
        ForwardingTest::SetUp();
        if (IsSkipped() || HasFatalFailure())
            return;
        ip(*behind_, "addr add 10.78.0.3/24 dev outer");
        ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
        peer([&] { server_ = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    }
    [[nodiscard]] UniqueFd behind(const char* address) const
    {
        UniqueFd socket;
        run_in(*behind_, world_->elsewhere, [&] { socket = bound(SOCK_DGRAM, {address, 0}); });
        return socket;
    }
    static TestPolicy asks_by_udp()
    {
        return closed().allow(inbound, "10.78.0.0/24", "udp/1-65535").allow(outbound, "10.77.0.0/24", "udp/1-65535");
    }
    // As many as there are places. What the host refuses to pass on is lost without a word.
    static void flood(const UniqueFd& from)
    {
        for (const char* address : {"10.77.0.3", "10.77.0.2"})
            for (int port = 1; port < 65536; ++port)
                (void)send_to_error(from, {address, static_cast<std::uint16_t>(port)});
    }
    [[nodiscard]] Datagram asked_by(const UniqueFd& client)
    {
        while (!receive(server_, std::chrono::milliseconds(10)).text.empty())
            ;
        EXPECT_EQ(send_to_error(client, {"10.77.0.2", 53}, "question"), 0);
        return receive(server_);
    }
    [[nodiscard]] std::uint64_t counted(const char* what) const { return datapath_->counters().at(what); }

    [[nodiscard]] std::uint64_t used(std::string_view table) const
    {
        for (const auto& use : datapath_->map_use())
            if (use.name == table)
                return use.entries;
        ADD_FAILURE() << table;
        return 0;
    }

    UniqueFd server_;
};

INSTANTIATE_TEST_SUITE_P(, ExchangeRoom, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

TEST_P(ExchangeRoom, NoFloodPushesOutAConversationThatLives)
{
    realise(asks_by_udp());
    const auto client = behind("10.78.0.2"), other = behind("10.78.0.2"), neighbour = behind("10.78.0.3");
    const auto question = asked_by(client);
    ASSERT_EQ(question.text, "question");
    flood(other);
    ASSERT_EQ(reply_error(server_, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
    EXPECT_EQ(asked_by(client).text, "question") << "it goes on";
    EXPECT_EQ(datapath_->exchanges().value().size(), BH_EXCHANGES / 16 * 12) << "a share";
    EXPECT_GE(counted("exchanges_full"), 30'000U);
    EXPECT_GE(counted("denied_forwarded"), 30'000U);
    EXPECT_GE(drained_count([](const bh_event& event) { return event.reason == BH_REASON_FULL; }), 1U);

    const auto theirs = asked_by(neighbour);
    EXPECT_EQ(theirs.text, "question") << "who has another share";
    ASSERT_EQ(reply_error(server_, theirs, "answer"), 0);
    EXPECT_EQ(receive(neighbour).text, "answer");
}

TEST_P(ExchangeRoom, WhoseAnswersPassAnywayNeedsNone)
{
    realise(asks_by_udp().allow(inbound, "10.77.0.0/24", "udp/1-65535").allow(outbound, "10.78.0.0/24", "udp/1-65535"));
    const auto client = behind("10.78.0.2");
    flood(client);
    const auto question = asked_by(client);
    EXPECT_EQ(question.text, "question");
    ASSERT_EQ(reply_error(server_, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
    EXPECT_FALSE(denial_seen(IPPROTO_UDP));
    EXPECT_EQ(used("exchanges"), 0U);
    EXPECT_EQ(counted("exchanges_full"), 0U);
}

TEST_P(ExchangeRoom, PingsFromOutsideNeedNone)
{
    realise(closed().allow(inbound, "10.77.0.2", "icmp/8"));
    peer([&] { EXPECT_TRUE(pings("10.77.0.1")); });
    EXPECT_EQ(used("exchanges"), 0U);
    EXPECT_EQ(used("spare_exchanges"), 1U);
}

// A rule that would let the answers pass for a while is not for as long as they come.
TEST_P(ExchangeRoom, WhoseAnswersPassForAWhileHasAPlace)
{
    constexpr auto lasts = std::chrono::milliseconds(1500);
    realise(asks_by_udp()
                .allow(inbound, "10.77.0.2", "udp/1-65535")
                .expires_in(lasts)
                .allow(outbound, "10.78.0.2", "udp/1-65535")
                .expires_in(lasts));
    const auto client = behind("10.78.0.2");
    const auto question = asked_by(client);
    EXPECT_EQ(used("exchanges"), 1U);
    std::this_thread::sleep_for(lasts + std::chrono::milliseconds(100));
    ASSERT_EQ(reply_error(server_, question, "answer"), 0);
    EXPECT_EQ(receive(client).text, "answer");
}

// By root, who has all places; an echo has its number where others have a port.
TEST_P(ExchangeRoom, APingWhoseAnswerCannotBeKnownIsRefused)
{
    ip(world_->wire.peer, "addr add 10.77.0.4/24 dev bh0");
    ip(world_->wire.guarded, "neigh replace 10.77.0.4 lladdr 02:77:00:00:00:02 dev bh0 nud permanent");
    realise(closed().allow(outbound, "10.77.0.0/24", "icmp/8"));
    int passed = 0, refused = 0;
    guarded([&] {
        const UniqueFd raw(::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
        set_option(raw, IPPROTO_IP, IP_RECVERR, 1); // else what an interface drops counts as sent (raw_sendmsg)
        for (const char* address : {"10.77.0.2", "10.77.0.3", "10.77.0.4"})
            for (int identifier = 0; identifier < 50'000; ++identifier) {
                const auto echo = icmp_echo(static_cast<std::uint16_t>(identifier));
                const Address to(address, 0);
                if (::sendto(raw.get(), echo.data(), echo.size(), 0, to.get(), to.size) >= 0)
                    ++passed;
                else if (errno == EPERM || errno == ENOBUFS)
                    ++refused;
            }
    });
    EXPECT_EQ(passed, BH_EXCHANGES);
    EXPECT_EQ(refused, 150'000 - BH_EXCHANGES);
    EXPECT_GE(drained_count([](const bh_event& event) {
                  return event.reason == BH_REASON_FULL && event.protocol == IPPROTO_ICMP;
              }),
              1U);
}

} // namespace
} // namespace bulkhead::test
