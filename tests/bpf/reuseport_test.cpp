// SPDX-License-Identifier: Apache-2.0
// Sockets that share a port, and a program that chooses among them who hears. No inbound door is asked about what
// reaches a connected socket.
#include "tests/bpf/fixture.h"

#include <linux/filter.h>
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
    // Always the second of the group. 0 or errno.
    static int choose_the_second(const UniqueFd& socket)
    {
        sock_filter second{BPF_RET | BPF_K, 0, 0, 1};
        const sock_fprog program{1, &second};
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

TEST_F(Reuseport, NorIsOneThatWasConnectedBefore)
{
    realise(TestPolicy().default_action(inbound, refuse).default_action(outbound, permit));
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

TEST_F(Reuseport, WhereNoPolicyIsAboutInboundAnybodyMayChoose)
{
    realise(TestPolicy().default_action(outbound, refuse));
    guarded([&] {
        const auto first = sharing(), second = sharing();
        EXPECT_EQ(choose_the_second(first), 0);
        EXPECT_EQ(connect_error(second, anybody), 0);
    });
}

} // namespace
} // namespace bulkhead::test
