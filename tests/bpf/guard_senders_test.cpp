// SPDX-License-Identifier: Apache-2.0
// Whose a packet is that leaves: what passed a door, and what only looks like it.
#include "tests/bpf/fixture.h"
#include "tests/bpf/frames.h"
#include "tests/bpf/runner.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <thread>

namespace bulkhead::test {
namespace {

class GuardSenders : public BpfTest {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.guard.attach = true;
        return options;
    }
    [[nodiscard]] int index_of(const char* name) const
    {
        unsigned index = 0;
        guarded([&] { index = ::if_nametoindex(name); });
        return static_cast<int>(index);
    }
};

std::string frame_of(std::uint16_t kind)
{
    std::string frame(64, '\0');
    frame[12] = static_cast<char>(kind >> 8);
    frame[13] = static_cast<char>(kind & 0xff);
    return frame;
}

// The kernel sends them for sockets that pass no door, and anybody may let it use an interface.
TEST_F(GuardSenders, FramesOfTipcAreRefused)
{
    realise(TestPolicy().default_action(outbound, refuse));
    const auto guard = guard_of(agent::pin_folder(options()), index_of("bh0"), "out");
    if (!guard)
        GTEST_SKIP() << "this kernel has no tcx, whose link names the guard's program";
    int verdict = 0;
    guarded([&] { verdict = (*guard)(frame_of(ETH_P_TIPC)); });
    EXPECT_EQ(verdict, TC_ACT_SHOT);
    EXPECT_TRUE(wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; }));
    EXPECT_EQ((*guard)(frame_of(ETH_P_PAE)), TC_ACT_UNSPEC) << "what keeps the link up";
}

void disconnect(const UniqueFd& socket)
{
    sockaddr nobody{};
    nobody.sa_family = AF_UNSPEC;
    ASSERT_EQ(::connect(socket.get(), &nobody, sizeof(nobody)), 0);
}

// Its neighbour answers at once, within the sender's own system call; as well it may be within another's.
TEST_F(GuardSenders, APacketThatWaitedIsNobodys)
{
    ip(world_->wire.peer, "addr add 10.77.0.9/24 dev bh0");
    realise(TestPolicy().default_action(outbound, refuse));
    for (const bool waits : {true, false}) {
        guarded([&] { (void)send_frame_ip("10.77.0.9", icmp_echo(waits ? 7 : 8)); });
        const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
        ASSERT_TRUE(denied);
        EXPECT_EQ(denied->protocol, IPPROTO_ICMP);
        EXPECT_EQ(denied->subject.cgroup_id, world_->enforced.id());
        EXPECT_EQ(denied->subject.uid, ::geteuid());
        if (waits)
            EXPECT_EQ(denied->subject.pid, 0U);
        else
            EXPECT_EQ(denied->subject.pid, static_cast<std::uint32_t>(::getpid()));
    }
}

// As many ancillary data as there is room for: send(2) reads the port of the peer before them, its address after.
class SlowSend {
public:
    SlowSend()
    {
        msghdr filled{};
        filled.msg_control = control_.data();
        filled.msg_controllen = control_.size();
        for (auto* one = CMSG_FIRSTHDR(&filled); one != nullptr; one = CMSG_NXTHDR(&filled, one)) {
            one->cmsg_level = SOL_IPV6;
            one->cmsg_type = IPV6_HOPLIMIT;
            one->cmsg_len = CMSG_LEN(sizeof(int));
            const int hops = 64;
            std::memcpy(CMSG_DATA(one), &hops, sizeof(hops));
        }
    }
    void operator()(const UniqueFd& socket)
    {
        iovec text{const_cast<char*>("x"), 1};
        msghdr message{};
        message.msg_iov = &text;
        message.msg_iovlen = 1;
        message.msg_control = control_.data();
        message.msg_controllen = control_.size();
        (void)::sendmsg(socket.get(), &message, MSG_DONTWAIT);
    }

private:
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int)) * 600> control_{};
};

TEST_F(GuardSenders, ALargeDatagramToAnotherThanThePeerArrivesWhole)
{
    auto policy = TestPolicy().default_action(outbound, refuse);
    for (const char* address : {"fd77::2", "fd77::3", "10.77.0.2", "10.77.0.3"})
        policy.allow(outbound, address, "udp/53");
    realise(policy);
    for (const auto& [first, second] : {std::pair{Address("fd77::2", 53), Address("fd77::3", 53)},
                                        std::pair{Address("10.77.0.2", 53), Address("10.77.0.3", 53)}}) {
        UniqueFd server;
        peer([&] { server = bound(SOCK_DGRAM, second); });
        guarded([&] {
            const auto socket = make_socket(first.family(), SOCK_DGRAM);
            ASSERT_EQ(connect_error(socket, first), 0);
            EXPECT_EQ(send_to_error(socket, second, std::string(5000, 'x')), 0);
        });
        EXPECT_EQ(receive(server).text.size(), 5000U);
    }
}

// A connection of before the agent goes on (sessions: keep), whatever else the socket tries.
TEST_F(GuardSenders, APeerOfBeforeStaysOne)
{
    datapath_.reset();
    ASSERT_TRUE(agent::detach_datapath(options()));
    UniqueFd server, socket;
    peer([&] { server = bound(SOCK_DGRAM, {"fd77::2", 53}); });
    guarded([&] {
        socket = make_socket(AF_INET6, SOCK_DGRAM);
        ASSERT_EQ(connect_error(socket, {"fd77::2", 53}), 0);
    });
    auto opened = open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    datapath_ = std::move(*opened);
    realise(TestPolicy().default_action(outbound, refuse));
    guarded([&] {
        EXPECT_EQ(connect_error(socket, {"fd77::2", 54}), EPERM);
        EXPECT_EQ(send_error(socket, "goes on"), 0);
    });
    EXPECT_EQ(receive(server).text, "goes on");
}

// The door was asked about it when its first part was written, and is not asked again.
TEST_F(GuardSenders, ADatagramThatWasBegunUnderAnotherPolicyDoesNotLeave)
{
    const auto allows = TestPolicy().default_action(outbound, refuse).allow(outbound, "10.77.0.2", "udp/53");
    realise(allows);
    UniqueFd server, first, second;
    const auto begin = [] {
        auto socket = make_socket(AF_INET, SOCK_DGRAM);
        const Address to("10.77.0.2", 53);
        EXPECT_EQ(::sendto(socket.get(), "a", 1, MSG_MORE, to.get(), to.size), 1);
        return socket;
    };
    peer([&] { server = bound(SOCK_DGRAM, {"10.77.0.2", 53}); });
    guarded([&] {
        first = begin();
        second = begin();
    });
    realise(allows);
    guarded([&] { EXPECT_EQ(send_error(first, "llowed"), 0); });
    EXPECT_EQ(receive(server).text, "allowed");
    realise(TestPolicy().default_action(outbound, refuse));
    const auto conversations = datapath_->udp_flows();
    ASSERT_TRUE(conversations);
    for (const auto& [key, flow] : *conversations)
        ASSERT_TRUE(datapath_->forget_udp_flow(key)); // as the sessions' keeper does
    guarded([&] { (void)send_error(second, "lso"); });
    EXPECT_EQ(receive(server).text, "");
    EXPECT_TRUE(wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; }));
}

// The port of one peer and the address of another, while the socket is connected to them in turn.
class PeersInTurn : public GuardSenders {
protected:
    // A socket that is sent with while it is connected.
    void send_while(const std::function<void(const UniqueFd&)>& connects) const
    {
        const auto socket = bound(SOCK_DGRAM, {"fd77::1", 5555});
        std::atomic<bool> done = false;
        std::thread sends([&] {
            SlowSend send;
            while (!done)
                send(socket);
        });
        connects(socket);
        done = true;
        sends.join();
    }
    void expect_nothing_at_half_a_peer(const std::function<void()>& attack)
    {
        realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "fd77::2", "udp/53"));
        UniqueFd denied;
        peer([&] { denied = bound(SOCK_DGRAM, {"fd77::2", 81}); });
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
        guarded([&] {
            while (std::chrono::steady_clock::now() < end)
                attack();
        });
        EXPECT_EQ(receive(denied).text, "");
    }
    const Address within{"::1", 81}, allowed{"fd77::2", 53};
};

TEST_F(PeersInTurn, AreNeverMixed)
{
    expect_nothing_at_half_a_peer([this] {
        send_while([this](const UniqueFd& socket) {
            for (int i = 0; i < 20'000; ++i) {
                EXPECT_EQ(connect_error(socket, within), 0);
                EXPECT_EQ(connect_error(socket, allowed), 0);
                disconnect(socket);
            }
        });
    });
}

// The hook is called before the kernel locks the socket to connect it.
TEST_F(PeersInTurn, AreNeverMixedAtTheFirstTimeEither)
{
    expect_nothing_at_half_a_peer([this] {
        send_while([this](const UniqueFd& socket) {
            std::thread beside([&] {
                for (int i = 0; i < 20; ++i)
                    (void)connect_error(socket, within);
            });
            for (int i = 0; i < 20; ++i)
                (void)connect_error(socket, allowed);
            beside.join();
        });
    });
}

} // namespace
} // namespace bulkhead::test
