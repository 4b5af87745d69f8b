// SPDX-License-Identifier: Apache-2.0
// `cut`, and datagram sockets that share both ends (SO_REUSEADDR): the kernel finds one of them, and the next one when
// that is gone.
#include "agent/sessions/sessions.h"
#include "tests/bpf/fixture.h"

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <random>
#include <string>

namespace bulkhead::test {
namespace {

struct Ends {
    const char* local;
    const char* remote;
};
constexpr Ends all_ends[] = {
    {"10.77.0.1", "10.77.0.2"}, {"fd77::1", "fd77::2"}, {"::ffff:10.77.0.1", "::ffff:10.77.0.2"}};

class SameEnds : public BpfTest {
protected:
    static std::vector<UniqueFd> bound_alike(std::size_t count, const char* local)
    {
        const Address from(local, 4000);
        std::vector<UniqueFd> sockets(count);
        for (auto& socket : sockets) {
            socket = make_socket(from.family(), SOCK_DGRAM);
            set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
            EXPECT_EQ(::bind(socket.get(), from.get(), from.size), 0);
        }
        return sockets;
    }
    // More than are searched for one by one where the kernel has a walk that destroys.
    void all_are_cut(const Ends& ends)
    {
        realise(TestPolicy().default_action(outbound, permit));
        std::vector<UniqueFd> sockets;
        guarded([&] {
            sockets = bound_alike(300, ends.local);
            std::vector<std::size_t> order(sockets.size()); // which a walk does not show
            std::iota(order.begin(), order.end(), 0);
            std::shuffle(order.begin(), order.end(), std::mt19937(1));
            for (const auto i : order)
                ASSERT_EQ(connect_error(sockets[i], {ends.remote, 53}), 0);
        });
        realise(TestPolicy().default_action(outbound, refuse));
        std::size_t told = 0;
        agent::SessionKeeper keeper(
            *datapath_, system_clock(), [](const bh_walked_socket&) { return std::nullopt; },
            [&told](const agent::ForbiddenSession&) { ++told; });
        const auto forbidden = keeper.after_switch({policy::Sessions::Kind::cut, {}}).value();
        EXPECT_EQ(forbidden.size(), sockets.size()) << ends.local;
        EXPECT_TRUE(std::all_of(forbidden.begin(), forbidden.end(), [](const auto& one) { return one.destroyed; }));
        EXPECT_EQ(told, sockets.size()) << "of each once";
        for (const auto& socket : sockets)
            EXPECT_NE(send_error(socket), 0) << ends.local;
    }
};

class SameEndsOnOldKernels : public SameEnds {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.only_oldest_features = true;
        return options;
    }
};

TEST_F(SameEnds, AreAllCut)
{
    for (const auto& ends : all_ends)
        all_are_cut(ends);
}

TEST_F(SameEndsOnOldKernels, AreAllCut)
{
    ASSERT_FALSE(datapath_->destroys_in_walk());
    for (const auto& ends : all_ends)
        all_are_cut(ends);
}

// The kernel would find one that may go on, and never the others.
TEST_F(SameEnds, AreCutWhereOthersHideThem)
{
    if (!datapath_->destroys_in_walk())
        GTEST_SKIP() << "this kernel has no bpf_sock_destroy() (Linux 6.5)";
    for (const auto& [local, remote] : all_ends) {
        realise(TestPolicy().default_action(outbound, permit));
        UniqueFd theirs; // or who sends first is told that nobody hears
        peer([&, remote = remote] { theirs = bound(SOCK_DGRAM, {remote[0] == ':' ? remote + 7 : remote, 53}); });
        std::vector<UniqueFd> ours, others;
        const auto make = [local = local, remote = remote](std::vector<UniqueFd>& sockets) {
            sockets = bound_alike(100, local);
            for (const auto& socket : sockets)
                ASSERT_EQ(connect_error(socket, {remote, 53}), 0);
        };
        guarded([&] { make(ours); });
        outsider([&] { make(others); }); // the newest, which the kernel finds first
        realise(TestPolicy().default_action(outbound, refuse));
        agent::SessionKeeper keeper(*datapath_, system_clock(), [](const bh_walked_socket&) { return std::nullopt; });
        const auto forbidden = keeper.after_switch({policy::Sessions::Kind::cut, {}}).value();
        EXPECT_EQ(forbidden.size(), ours.size()) << local;
        EXPECT_TRUE(std::all_of(forbidden.begin(), forbidden.end(), [](const auto& one) { return one.destroyed; }));
        for (const auto& socket : ours)
            EXPECT_NE(send_error(socket), 0) << local;
        for (const auto& socket : others)
            EXPECT_EQ(send_error(socket), 0) << local;
    }
}

// Whoever talks to another peer by now is not who was judged.
TEST_F(SameEnds, AWalkDestroysNoSocketThatHasAnotherPeer)
{
    if (!datapath_->destroys_in_walk())
        GTEST_SKIP() << "this kernel has no bpf_sock_destroy() (Linux 6.5)";
    realise(TestPolicy().default_action(outbound, permit));
    for (const auto& [remote, other] : {std::pair{"10.77.0.2", "10.77.0.9"}, {"fd77::2", "fd77::9"}}) {
        const Address judged(remote, 53);
        UniqueFd socket;
        std::vector<agent::WalkedSocket> walked;
        guarded([&] {
            socket = make_socket(judged.family(), SOCK_DGRAM);
            ASSERT_EQ(connect_error(socket, judged), 0);
            walked = datapath_->walk_sockets().value();
        });
        const auto found = std::find_if(walked.begin(), walked.end(),
                                        [&](const auto& one) { return one.socket.cookie == cookie_of(socket); });
        ASSERT_NE(found, walked.end());
        const bh_walked_socket* const condemned[] = {&found->socket};
        for (const auto& peer : {Address(other, 53), Address(remote, 54)}) {
            guarded([&] { ASSERT_EQ(connect_error(socket, peer), 0); });
            EXPECT_TRUE(datapath_->destroy_in_walk(condemned).empty()) << remote;
        }
        guarded([&] { ASSERT_EQ(connect_error(socket, judged), 0); });
        EXPECT_EQ(datapath_->destroy_in_walk(condemned).count(found->socket.cookie), 1U);
        EXPECT_TRUE(datapath_->destroy_in_walk(condemned).empty()) << "it is gone";
        EXPECT_NE(send_error(socket), 0);
    }
}

} // namespace
} // namespace bulkhead::test
