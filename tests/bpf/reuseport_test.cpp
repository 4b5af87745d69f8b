// SPDX-License-Identifier: Apache-2.0
// Sockets that share a port, and a program that chooses among them who hears. No inbound door is asked about what
// reaches a connected socket.
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

namespace bulkhead::test {
namespace {

class Reuseport : public BpfTest {
protected:
    static UniqueFd sharing()
    {
        UniqueFd socket = make_socket(AF_INET, SOCK_DGRAM);
        set_option(socket, SOL_SOCKET, SO_REUSEPORT, 1);
        const Address address("10.77.0.1", 5353);
        EXPECT_EQ(::bind(socket.get(), address.get(), address.size), 0);
        return socket;
    }
    static int choose_the_second(const UniqueFd& socket) { return choose(socket, 1); }
    // Always the same of the group. 0 or errno.
    static int choose(const UniqueFd& socket, std::uint32_t which)
    {
        sock_filter one{BPF_RET | BPF_K, 0, 0, which};
        const sock_fprog program{1, &one};
        const int done = ::setsockopt(socket.get(), SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof(program));
        return done == 0 ? 0 : errno;
    }
    void expect_deaf(const UniqueFd& connected) const
    {
        peer([&] { EXPECT_EQ(send_to_error(make_socket(AF_INET, SOCK_DGRAM), {"10.77.0.1", 5353}, "in"), 0); });
        EXPECT_EQ(receive(connected).text, "");
    }
    void expect_told()
    {
        const auto told = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
        ASSERT_TRUE(told);
        EXPECT_EQ(told->reason, BH_REASON_MALFORMED);
    }
    const Address anybody{"10.77.0.1", 9};
};

TEST_F(Reuseport, AConnectedSocketIsNotChosenForWhatOthersSend)
{
    realise(TestPolicy().default_action(inbound, refuse).default_action(outbound, permit));
    UniqueFd first, second;
    guarded([&] {
        first = sharing();
        second = sharing();
        EXPECT_EQ(choose_the_second(first), 0) << "by itself it is nothing";
        EXPECT_EQ(connect_error(second, anybody), EPERM);
    });
    expect_told();
    expect_deaf(second);
}

// Workers of one service: the agent hears of them now and then, not at each datagram.
TEST_F(Reuseport, ThoseThatSendInTurnAreToldOfNowAndThen)
{
    const auto is_connect = [](const bh_event& event) { return event.type == BH_EVENT_CONNECT; };
    TestPolicy policy;
    policy.default_action(outbound, refuse, policy::plane_bit(policy::Plane::shadow));
    realise(policy);
    UniqueFd first, second;
    const auto send_in_turn = [&] {
        guarded([&] {
            for (int i = 0; i < 20; ++i)
                ASSERT_EQ(send_to_error(i % 2 == 0 ? first : second, {"10.77.0.2", 53}), 0);
        });
    };
    guarded([&] {
        first = sharing();
        second = sharing();
    });
    send_in_turn();
    EXPECT_EQ(drained_count(is_connect), 1U);

    const auto flows = datapath_->udp_flows();
    ASSERT_TRUE(flows);
    ASSERT_EQ(flows->size(), 1U);
    auto [key, flow] = flows->front();
    EXPECT_EQ(flow.cookie, cookie_of(second));
    flow.opened_ns -= BH_UDP_SIBLINGS_NS;
    const UniqueFd map(bpf_obj_get((options().pin_dir + "/test/maps/bh_udp_out").c_str()));
    ASSERT_EQ(bpf_map_update_elem(map.get(), &key, &flow, BPF_EXIST), 0);
    send_in_turn();
    EXPECT_EQ(drained_count(is_connect), 1U);
}

TEST_F(Reuseport, NorIsOneThatWasConnectedBefore)
{
    realise(TestPolicy().default_action(inbound, refuse));
    UniqueFd first, second;
    guarded([&] {
        first = sharing();
        second = sharing();
        EXPECT_EQ(connect_error(second, anybody), 0);
        EXPECT_EQ(choose_the_second(first), EPERM);
    });
    expect_told();
    expect_deaf(second);
}

// Where it was alone then, nothing was noted.
TEST_F(Reuseport, NorIsOneThatOthersJoinLater)
{
    realise(TestPolicy().default_action(inbound, refuse));
    UniqueFd first, second;
    guarded([&] {
        first = bound(SOCK_DGRAM, {"10.77.0.1", 5353});
        EXPECT_EQ(connect_error(first, anybody), 0);
        set_option(first, SOL_SOCKET, SO_REUSEPORT, 1);
        second = sharing();
        EXPECT_EQ(choose(second, 0), EPERM);
    });
    expect_told();
    expect_deaf(first);
}

// Its port comes after the door was asked.
TEST_F(Reuseport, NorIsOneThatWillJoinTheGroup)
{
    realise(TestPolicy().default_action(inbound, refuse));
    guarded([&] {
        const UniqueFd later = make_socket(AF_INET, SOCK_DGRAM);
        set_option(later, SOL_SOCKET, SO_REUSEPORT, 1);
        set_option(later, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        const Address address("10.77.0.1", 0);
        ASSERT_EQ(::bind(later.get(), address.get(), address.size), 0);
        ASSERT_EQ(port_of(later), 0);
        EXPECT_EQ(connect_error(later, anybody), EPERM);
        const UniqueFd alone = make_socket(AF_INET, SOCK_DGRAM);
        set_option(alone, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        ASSERT_EQ(::bind(alone.get(), address.get(), address.size), 0);
        EXPECT_EQ(connect_error(alone, anybody), 0);
    });
}

TEST_F(Reuseport, WhereNoPolicyIsAboutInboundAnybodyMayChoose)
{
    realise(TestPolicy().default_action(outbound, refuse));
    guarded([&] {
        const auto first = sharing(), second = sharing();
        EXPECT_EQ(connect_error(second, anybody), 0);
        EXPECT_EQ(choose_the_second(first), 0);
    });
}

} // namespace
} // namespace bulkhead::test
