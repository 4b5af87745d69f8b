// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace bulkhead::test {
namespace {

bool same(const bh_address& a, std::string_view b)
{
    const auto other = abi_address(b);
    return std::memcmp(&a, &other, sizeof(a)) == 0;
}

class Events : public BpfTest {
protected:
    // Sends `out` bytes from the client, `in` bytes back, and closes: the client first.
    static void converse(UniqueFd& client, UniqueFd& server, std::size_t out, std::size_t in)
    {
        ASSERT_EQ(send_error(client, std::string(out, 'o')), 0);
        read_exactly(server, out);
        ASSERT_EQ(send_error(server, std::string(in, 'i')), 0);
        read_exactly(client, in);
        ASSERT_EQ(::shutdown(client.get(), SHUT_WR), 0);
        read_exactly(server, 0);
        server.reset();
        read_exactly(client, 0);
        client.reset();
    }

    // `size` bytes, or the end of the stream when it is 0.
    static void read_exactly(const UniqueFd& socket, std::size_t size)
    {
        std::string buffer(std::max<std::size_t>(size, 1), '\0');
        std::size_t got = 0;
        while (true) {
            const ssize_t one = ::read(socket.get(), buffer.data(), buffer.size() - (size == 0 ? 0 : got));
            ASSERT_GE(one, 0);
            got += static_cast<std::size_t>(one);
            if (one == 0 || (size != 0 && got >= size))
                break;
        }
        ASSERT_EQ(got, size);
    }
};

TEST_F(Events, OutboundConnectionFromDoorToClose)
{
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "10.77.0.2", "tcp/80"));
    UniqueFd listener, client, server;
    peer([&] { listener = listening({"10.77.0.2", 80}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_STREAM);
        ASSERT_EQ(connect_error(client, {"10.77.0.2", 80}), 0);
    });
    server = accepted(listener);
    const auto cookie = cookie_of(client);
    const auto port = port_of(client);
    converse(client, server, 1000, 70);

    const auto events = drain();
    std::vector<bh_event> own;
    std::copy_if(events.begin(), events.end(), std::back_inserter(own),
                 [cookie](const bh_event& event) { return event.cookie == cookie; });
    ASSERT_EQ(own.size(), 3U);
    const auto& [door, established, closed] = std::tie(own[0], own[1], own[2]);
    EXPECT_EQ(door.type, BH_EVENT_CONNECT);
    EXPECT_EQ(door.verdict, BH_ALLOWED);
    EXPECT_EQ(door.reason, BH_REASON_RULE);
    EXPECT_EQ(door.direction, BH_OUTBOUND);
    EXPECT_EQ(door.generation, datapath_->control().generation);
    EXPECT_EQ(door.subject.pid, static_cast<__u32>(::getpid()));
    EXPECT_EQ(door.subject.cgroup_id, world_->enforced.id());
    EXPECT_EQ(door.subject.uid, ::geteuid());
    EXPECT_STREQ(door.subject.comm, "bpf_events");
    struct stat exe {};
    ASSERT_EQ(::stat("/proc/self/exe", &exe), 0);
    EXPECT_EQ(door.subject.exe_inode, exe.st_ino);
    EXPECT_TRUE(same(door.remote, "10.77.0.2"));
    EXPECT_EQ(door.remote_port, 80);

    EXPECT_EQ(established.type, BH_EVENT_ESTABLISHED);
    EXPECT_EQ(established.direction, BH_OUTBOUND);
    EXPECT_TRUE(same(established.local, "10.77.0.1"));
    EXPECT_EQ(established.local_port, port);
    EXPECT_EQ(established.remote_port, 80);
    EXPECT_EQ(established.netns, world_->wire.guarded.inode());

    EXPECT_EQ(closed.type, BH_EVENT_CLOSE);
    EXPECT_EQ(closed.netns, world_->wire.guarded.inode());
    EXPECT_EQ(closed.bytes_out, 1000U);
    EXPECT_EQ(closed.bytes_in, 70U);
    EXPECT_GT(closed.packets_out, 2U);
    EXPECT_GT(closed.packets_in, 2U);
    EXPECT_EQ(closed.local_port, port);
    EXPECT_GE(closed.time_ns, established.time_ns);
}

TEST_F(Events, InboundConnectionNamesTheListenersOwnerAndTheVerdict)
{
    realise(TestPolicy().default_action(inbound, refuse).allow(inbound, "fd77::/64", "tcp/80"));
    UniqueFd listener, client, server;
    guarded([&] { listener = listening({"::", 80}); });
    peer([&] {
        client = bound(SOCK_STREAM, {"fd77::2", 0});
        ASSERT_EQ(connect_error(client, {"fd77::1", 80}), 0);
    });
    server = accepted(listener);
    const auto cookie = cookie_of(server);
    converse(client, server, 5, 30000);

    const auto established = wait_for([](const bh_event& event) { return event.type == BH_EVENT_ESTABLISHED; });
    ASSERT_TRUE(established);
    EXPECT_EQ(established->cookie, cookie);
    EXPECT_EQ(established->direction, BH_INBOUND);
    EXPECT_EQ(established->verdict, BH_ALLOWED);
    EXPECT_EQ(established->reason, BH_REASON_RULE);
    EXPECT_EQ(established->subject.pid, static_cast<__u32>(::getpid()));
    EXPECT_TRUE(same(established->local, "fd77::1"));
    EXPECT_TRUE(same(established->remote, "fd77::2"));
    EXPECT_EQ(established->local_port, 80);
    EXPECT_EQ(established->netns, world_->wire.guarded.inode());
    const auto closed = wait_for([](const bh_event& event) { return event.type == BH_EVENT_CLOSE; });
    ASSERT_TRUE(closed);
    EXPECT_EQ(closed->cookie, cookie);
    EXPECT_EQ(closed->bytes_in, 5U);
    EXPECT_EQ(closed->bytes_out, 30000U);
}

TEST_F(Events, DenialsNameTheAttempt)
{
    realise(TestPolicy().default_action(outbound, refuse).deny(inbound, "10.77.0.2", "tcp/80"));
    UniqueFd listener;
    guarded([&] {
        EXPECT_EQ(tcp_error({"10.77.0.3", 22}), EPERM);
        listener = listening({"0.0.0.0", 80});
    });
    peer([&] {
        const UniqueFd socket = bound(SOCK_STREAM, {"10.77.0.2", 4321});
        EXPECT_EQ(connect_error(socket, {"10.77.0.1", 80}), ECONNREFUSED);
    });
    std::vector<bh_event> denials;
    for (const bh_event& event : drain())
        if (event.type == BH_EVENT_DENY)
            denials.push_back(event);
    ASSERT_EQ(denials.size(), 2U);
    EXPECT_EQ(denials[0].direction, BH_OUTBOUND);
    EXPECT_EQ(denials[0].verdict, BH_DENIED);
    EXPECT_EQ(denials[0].reason, BH_REASON_DEFAULT);
    EXPECT_TRUE(same(denials[0].remote, "10.77.0.3"));
    EXPECT_EQ(denials[0].remote_port, 22);
    EXPECT_EQ(denials[0].subject.pid, static_cast<__u32>(::getpid()));
    EXPECT_EQ(denials[1].direction, BH_INBOUND);
    EXPECT_EQ(denials[1].reason, BH_REASON_RULE);
    EXPECT_TRUE(same(denials[1].remote, "10.77.0.2"));
    EXPECT_EQ(denials[1].remote_port, 4321);
    EXPECT_TRUE(same(denials[1].local, "10.77.0.1"));
    EXPECT_EQ(denials[1].local_port, 80);
    EXPECT_EQ(denials[1].subject.pid, static_cast<__u32>(::getpid())) << "the listener's owner";
}

TEST_F(Events, ListenersComeAndGo)
{
    guarded([&] {
        const UniqueFd server = listening({"10.77.0.1", 8080});
        const auto came = wait_for([](const bh_event& event) { return event.type == BH_EVENT_LISTEN; });
        ASSERT_TRUE(came);
        EXPECT_EQ(came->cookie, cookie_of(server));
        EXPECT_EQ(came->local_port, 8080);
        EXPECT_TRUE(same(came->local, "10.77.0.1"));
        EXPECT_EQ(came->subject.cgroup_id, world_->enforced.id());
        EXPECT_EQ(came->netns, world_->wire.guarded.inode());
    });
    const auto went = wait_for([](const bh_event& event) { return event.type == BH_EVENT_UNLISTEN; });
    ASSERT_TRUE(went);
    EXPECT_EQ(went->netns, world_->wire.guarded.inode());
    EXPECT_EQ(went->local_port, 8080);
    EXPECT_EQ(datapath_->map_use().front().entries, 0U);
}

TEST_F(Events, NoEntryStaysBehindInTheListenerTable)
{
    UniqueFd theirs;
    peer([&] { theirs = listening({"10.77.0.2", 80}); });
    guarded([&] {
        { // a client that is bound before it connects
            const UniqueFd client = bound(SOCK_STREAM, {"10.77.0.1", 1234});
            EXPECT_EQ(connect_error(client, {"10.77.0.2", 80}), 0);
            EXPECT_EQ(datapath_->map_use().front().entries, 0U);
        }
        {
            (void)bound(SOCK_STREAM, {"10.77.0.1", 1235});
        }
        { // connect(2) narrows the wildcard that it was entered with
            const UniqueFd datagrams = bound(SOCK_DGRAM, {"0.0.0.0", 1236});
            EXPECT_EQ(connect_error(datagrams, {"10.77.0.2", 53}), 0);
        }
        {
            EXPECT_EQ(0, send_to_error(make_socket(AF_INET6, SOCK_DGRAM), {"fd77::2", 53}));
        }
        { // two sockets on one key
            UniqueFd sockets[2];
            for (auto& socket : sockets) {
                const Address address("10.77.0.1", 1237);
                socket = make_socket(AF_INET, SOCK_STREAM);
                set_option(socket, SOL_SOCKET, SO_REUSEPORT, 1);
                ASSERT_EQ(::bind(socket.get(), address.get(), address.size), 0);
                ASSERT_EQ(::listen(socket.get(), 8), 0);
            }
            EXPECT_EQ(datapath_->map_use().front().entries, 1U);
            sockets[1].reset();
            EXPECT_EQ(datapath_->map_use().front().entries, 1U);
        }
        // Nobody counts who is left on a shared key but a walk.
        EXPECT_EQ(datapath_->map_use().front().entries, 1U);
        ASSERT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value()));
    });
    EXPECT_EQ(datapath_->map_use().front().entries, 0U);
}

// The peer does not hear our SYN and calls from the port that it went to: both ends have called, and the kernel tells
// of such a connection as of an accepted one.
TEST_F(Events, ASimultaneousOpenIsOutbound)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .default_action(inbound, permit)
                .allow(outbound, "10.77.0.2", "tcp/80"));
    peer([&] {
        ASSERT_EQ(std::system("nft add table ip t && nft 'add chain ip t c { type filter hook input priority 0; }' && "
                              "nft add rule ip t c 'tcp flags & (syn|ack) == syn drop'"),
                  0);
    });
    UniqueFd client, theirs;
    guarded([&] {
        client = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
        const Address from("10.77.0.1", 5000), to("10.77.0.2", 80);
        ASSERT_EQ(::bind(client.get(), from.get(), from.size), 0);
        ASSERT_NE(::connect(client.get(), to.get(), to.size), 0);
    });
    peer([&] {
        theirs = make_socket(AF_INET, SOCK_STREAM);
        const Address from("10.77.0.2", 80);
        ASSERT_EQ(::bind(theirs.get(), from.get(), from.size), 0);
        ASSERT_EQ(connect_error(theirs, {"10.77.0.1", 5000}), 0);
    });
    const auto established = wait_for(
        [&](const bh_event& event) { return event.type == BH_EVENT_ESTABLISHED && event.cookie == cookie_of(client); });
    ASSERT_TRUE(established);
    EXPECT_EQ(established->direction, BH_OUTBOUND);
}

} // namespace
} // namespace bulkhead::test
