// SPDX-License-Identifier: Apache-2.0
// Connections that are begun in another network namespace than the agent's.
#include "tests/bpf/container.h"
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::test {
namespace {

class Connects : public BpfTest {
protected:
    // struct bh_asked; empty: the doors keep nothing with the socket.
    [[nodiscard]] std::vector<std::uint32_t> asked(const UniqueFd& socket) const
    {
        const UniqueFd map(bpf_obj_get((options().pin_dir + "/test/maps/bh_asked_peers").c_str()));
        bpf_map_info info{};
        __u32 size = sizeof(info);
        EXPECT_EQ(bpf_obj_get_info_by_fd(map.get(), &info, &size), 0);
        std::vector<std::uint32_t> kept(info.value_size / sizeof(std::uint32_t));
        const int fd = socket.get();
        if (bpf_map_lookup_elem(map.get(), &fd, kept.data()) != 0)
            kept.clear();
        return kept;
    }
    [[nodiscard]] std::optional<std::uint32_t> to_own(const UniqueFd& socket) const // the last member
    {
        const auto kept = asked(socket);
        return kept.empty() ? std::nullopt : std::optional(kept.back());
    }
    [[nodiscard]] std::optional<std::uint32_t> peers(const UniqueFd& socket) const // by the first, .writes
    {
        const auto kept = asked(socket);
        return kept.empty() ? std::nullopt : std::optional(kept.front() / 2);
    }
};

// Else nobody would look at its connections when the policy changes.
TEST_F(Connects, TellOfANamespaceInWhichNobodyHears)
{
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "10.78.0.2", "tcp/80"));
    const Netns netns;
    run_in(netns, world_->enforced, [&] {
        EXPECT_EQ(tcp_error({"10.78.0.3", 80}), EPERM);
        EXPECT_EQ(tcp_error({"10.78.0.2", 80}), ENETUNREACH);
    });
    const auto told = wait_for([](const bh_event& event) { return event.type == BH_EVENT_NAMESPACE; });
    ASSERT_TRUE(told);
    EXPECT_EQ(told->netns, netns.inode());
}

// Each segment of what goes to the namespace's own addresses is looked at where it leaves by an interface.
TEST_F(Connects, ThatGoElsewhereHaveNotGoneToTheirOwnNamespace)
{
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "10.78.0.2", "tcp/80"));
    Container container(world_->enforced);
    container.join(world_->wire.peer);
    ip(container.netns(), "link set lo up");
    UniqueFd server, socket;
    peer([&] { server = listening({"10.78.0.2", 80}); });
    (void)datapath_->follow_namespaces();
    run_in(container.netns(), world_->enforced, [&] {
        socket = make_socket(AF_INET, SOCK_STREAM);
        EXPECT_NE(connect_error(socket, {"10.78.0.1", 80}), EPERM);
        EXPECT_EQ(to_own(socket), 1U);
        EXPECT_EQ(connect_error(socket, {"10.78.0.2", 80}), 0);
    });
    EXPECT_EQ(to_own(socket), 0U);
}

// No door was asked about it, and the address may be another host's by the time of the next connect(2).
TEST_F(Connects, APeerWithinTheHostIsNotTakenForOneThatADoorWasAskedAbout)
{
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "10.77.0.2", "udp/53"));
    guarded([&] {
        const auto socket = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(connect_error(socket, {"10.77.0.1", 53}), 0);
        EXPECT_EQ(connect_error(socket, {"10.77.0.2", 54}), EPERM);
        EXPECT_EQ(peers(socket), 0U);
        EXPECT_EQ(connect_error(socket, {"10.77.0.2", 53}), 0);
        EXPECT_EQ(connect_error(socket, {"10.77.0.2", 54}), EPERM);
        EXPECT_EQ(peers(socket), 1U);
    });
}

TEST_F(Connects, OfThePeersOfBeforeThoseWithinTheHostAreNone)
{
    datapath_.reset();
    ASSERT_TRUE(agent::detach_datapath(options()));
    UniqueFd within, elsewhere;
    guarded([&] {
        within = make_socket(AF_INET6, SOCK_DGRAM);
        ASSERT_EQ(connect_error(within, {"::1", 53}), 0);
        elsewhere = make_socket(AF_INET6, SOCK_DGRAM);
        ASSERT_EQ(connect_error(elsewhere, {"fd77::2", 53}), 0);
    });
    auto opened = open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    datapath_ = std::move(*opened);
    realise(TestPolicy().default_action(outbound, refuse));
    guarded([&] {
        EXPECT_EQ(connect_error(within, {"fd77::2", 54}), EPERM);
        EXPECT_EQ(connect_error(elsewhere, {"fd77::2", 54}), EPERM);
    });
    EXPECT_EQ(peers(within), 0U);
    EXPECT_EQ(peers(elsewhere), 1U);
}

} // namespace
} // namespace bulkhead::test
