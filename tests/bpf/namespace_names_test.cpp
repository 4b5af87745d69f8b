// SPDX-License-Identifier: Apache-2.0
//
// Addresses and ports are names within one network namespace: the same in another is another one's.
#include "tests/bpf/namespaces_fixture.h"

#include <unistd.h>

#include <cerrno>
#include <set>

namespace bulkhead::test {
namespace {

using namespace std::chrono_literals;

class NamespaceNames : public Namespaces {};

// Or whoever provokes one of the same name in a namespace of his own keeps it from being told where it counts.
TEST_F(NamespaceNames, DenialsOfOneNameAreToldApart)
{
    allow_only_10_78_0_2();
    std::set<std::uint32_t> told, inodes;
    for (int i = 0; i < 2; ++i) {
        Container container(world_->enforced); // with the address of the one before
        inodes.insert(container.inode());
        EXPECT_EQ(follow(), std::vector{container.inode()});
        join(container);
        UniqueFd server;
        inside(container, [&] { server = listening({"0.0.0.0", 80}); });
        EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
        EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
        ip(world_->wire.peer, "link del bh1");
    }
    std::size_t events = 0;
    while (const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; })) {
        told.insert(denied->netns);
        ++events;
    }
    EXPECT_EQ(events, 2U);
    EXPECT_EQ(told, inodes);
}

TEST_F(NamespaceNames, TheSamePortElsewhereIsAnotherPort)
{
    realise(TestPolicy().default_action(inbound, refuse));
    Container container(world_->enforced);
    join(container);
    (void)follow();
    UniqueFd ours, theirs;
    inside(container, [&] { ours = listening({"0.0.0.0", 80}); });
    outsider([&] { theirs = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0) << "nobody of the cgroup listens there"; });
    ASSERT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value()));
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
    ours.reset();
    EXPECT_EQ(use_of("listeners"), 0U);
}

TEST_F(NamespaceNames, EachHasItsOwnLoopback)
{
    realise(TestPolicy().default_action(outbound, refuse).default_action(inbound, refuse));
    Container container(world_->enforced);
    join(container);
    ip(container.netns(), "link set lo up");
    (void)follow();
    UniqueFd server, datagrams;
    inside(container, [&] {
        server = listening({"::", 80});
        datagrams = bound(SOCK_DGRAM, {"::", 53});
        EXPECT_EQ(tcp_error({"127.0.0.1", 80}), 0);
        EXPECT_EQ(tcp_error({"::1", 80}), 0);
        EXPECT_EQ(tcp_error({"10.78.0.1", 80}), 0) << "its own address";
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), EPERM) << "the host's, which is a peer";
        EXPECT_EQ(send_to_error(make_socket(AF_INET, SOCK_DGRAM), {"10.78.0.1", 53}), 0);
        EXPECT_EQ(send_to_error(make_socket(AF_INET, SOCK_DGRAM), {"10.77.0.1", 53}), EPERM);
    });
    EXPECT_EQ(receive(datagrams).text, "x");
    guarded([&] { EXPECT_EQ(tcp_error({"10.78.0.1", 80}), EPERM) << "the container's, which is a peer"; });

    bh_judge_request requests[2]{};
    for (auto& request : requests) {
        request.remote = abi_address("10.78.0.1");
        request.port = 80;
        request.protocol = 6;
    }
    requests[1].netns = container.inode();
    ASSERT_TRUE(datapath_->judge(requests));
    EXPECT_EQ(requests[0].verdict, BH_DENIED) << "seen from the host";
    EXPECT_EQ(requests[1].verdict, BH_ALLOWED);

    realise(TestPolicy().loopback(refuse).default_action(outbound, permit));
    inside(container, [&] {
        EXPECT_EQ(tcp_error({"127.0.0.1", 80}), EPERM);
        EXPECT_EQ(tcp_error({"10.78.0.1", 80}), EPERM);
        EXPECT_NE(tcp_error({"10.77.0.1", 80}), EPERM);
    });
}

TEST_F(NamespaceNames, AddressesThatComeAndGoAreFollowed)
{
    realise(TestPolicy().default_action(outbound, refuse));
    Container container(world_->enforced), other(world_->enforced);
    join(container);
    ip(container.netns(), "addr add 10.78.0.9/24 dev eth0");
    ip(other.netns(), "link set lo up");
    ip(other.netns(), "addr add 10.78.0.9/32 dev lo");
    (void)follow();
    const auto refused_in = [&](const Container& where) {
        int error = 0;
        inside(where, [&] { error = tcp_error({"10.78.0.9", 80}); });
        return error == EPERM;
    };
    EXPECT_FALSE(refused_in(container));
    EXPECT_FALSE(refused_in(other));
    guarded([&] { EXPECT_EQ(tcp_error({"10.78.0.9", 80}), EPERM); });
    ip(container.netns(), "addr del 10.78.0.9/24 dev eth0");
    (void)follow();
    EXPECT_TRUE(refused_in(container));
    EXPECT_FALSE(refused_in(other)) << "another namespace has it still";

    // Another agent takes over without a moment in which they are peers to themselves.
    datapath_.reset();
    auto opened = open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    datapath_ = std::move(*opened);
    EXPECT_FALSE(refused_in(other));
    EXPECT_TRUE(refused_in(container));
}

} // namespace
} // namespace bulkhead::test
