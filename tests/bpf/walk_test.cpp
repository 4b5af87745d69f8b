// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

namespace bulkhead::test {
namespace {

class Walk : public BpfTest {
protected:
    // Sockets are those of the namespace of the thread that walks.
    [[nodiscard]] std::vector<agent::WalkedSocket> walk() const
    {
        std::vector<agent::WalkedSocket> sockets;
        outsider([&] { sockets = datapath_->walk_sockets().value(); });
        return sockets;
    }
    [[nodiscard]] std::optional<agent::WalkedSocket> find(std::uint64_t cookie) const
    {
        for (const auto& walked : walk())
            if (walked.socket.cookie == cookie)
                return walked;
        return std::nullopt;
    }
    void adopt() const
    {
        outsider([&] { EXPECT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value())); });
    }
};

TEST_F(Walk, NamesTheOwnerNotWhoWalks)
{
    UniqueFd server;
    guarded([&] { server = listening({"::", 8080}); });
    ASSERT_EQ(::prctl(PR_SET_NAME, "who_owns"), 0); // of the leader of the threads, which owns the files
    std::optional<agent::WalkedSocket> found;
    std::thread walker([&] {
        ASSERT_EQ(::prctl(PR_SET_NAME, "who_walks"), 0);
        found = find(cookie_of(server));
    });
    walker.join();
    (void)::prctl(PR_SET_NAME, "bpf_walk");
    ASSERT_TRUE(found);
    EXPECT_EQ(found->owner.pid, static_cast<__u32>(::getpid()));
    EXPECT_STREQ(found->owner.comm, "who_owns");
}

TEST_F(Walk, FindsConnectionsListenersAndDatagramSocketsWithOwners)
{
    UniqueFd theirs, client, server, udp, unbound;
    peer([&] { theirs = listening({"10.77.0.2", 80}); });
    guarded([&] {
        client = make_socket(AF_INET, SOCK_STREAM);
        ASSERT_EQ(connect_error(client, {"10.77.0.2", 80}), 0);
        server = listening({"::", 8080});
        udp = bound(SOCK_DGRAM, {"10.77.0.1", 5353});
    });
    const UniqueFd accepted_end = accepted(theirs);
    ASSERT_EQ(send_error(client, "twelve bytes"), 0);
    ASSERT_EQ(receive(accepted_end).text, "twelve bytes");

    const auto connection = find(cookie_of(client));
    ASSERT_TRUE(connection);
    EXPECT_EQ(connection->socket.protocol, IPPROTO_TCP);
    EXPECT_EQ(connection->socket.state, TCP_ESTABLISHED);
    EXPECT_EQ(connection->socket.local_port, port_of(client));
    EXPECT_EQ(connection->socket.remote_port, 80);
    EXPECT_EQ(connection->socket.bytes_out, 12U);
    EXPECT_EQ(connection->socket.cgroup_id, world_->enforced.id());
    EXPECT_EQ(connection->owner.pid, static_cast<__u32>(::getpid()));
    EXPECT_STREQ(connection->owner.comm, "bpf_walk");
    const auto remote = abi_address("10.77.0.2");
    EXPECT_EQ(std::memcmp(&connection->socket.remote, &remote, sizeof(remote)), 0);

    const auto listener = find(cookie_of(server));
    ASSERT_TRUE(listener);
    EXPECT_EQ(listener->socket.state, TCP_LISTEN);
    EXPECT_EQ(listener->socket.local_port, 8080);
    EXPECT_EQ(listener->socket.family, AF_INET6);
    EXPECT_EQ(listener->socket.v6only, 0);

    const auto datagrams = find(cookie_of(udp));
    ASSERT_TRUE(datagrams);
    EXPECT_EQ(datagrams->socket.protocol, IPPROTO_UDP);
    EXPECT_EQ(datagrams->socket.local_port, 5353);
    EXPECT_EQ(datagrams->owner.pid, static_cast<__u32>(::getpid()));
    EXPECT_FALSE(find(cookie_of(accepted_end))) << "another namespace";
}

TEST_F(Walk, TellsWhatConnectOpened)
{
    UniqueFd theirs, client, chosen, asked, server, caller;
    peer([&] { theirs = listening({"10.77.0.2", 80}); });
    const auto connected_from = [](const Address& local, bool reuse) {
        UniqueFd made = make_socket(AF_INET, SOCK_STREAM);
        if (reuse)
            set_option(made, SOL_SOCKET, SO_REUSEADDR, 1);
        EXPECT_EQ(::bind(made.get(), local.get(), local.size), 0);
        EXPECT_EQ(connect_error(made, {"10.77.0.2", 80}), 0);
        return made;
    };
    guarded([&] {
        client = make_socket(AF_INET, SOCK_STREAM);
        ASSERT_EQ(connect_error(client, {"10.77.0.2", 80}), 0);
        chosen = connected_from({"10.77.0.1", 4000}, true);
        asked = connected_from({"10.77.0.1", 0}, false);
        server = listening({"10.77.0.1", 8080});
    });
    peer([&] {
        caller = make_socket(AF_INET, SOCK_STREAM);
        ASSERT_EQ(connect_error(caller, {"10.77.0.1", 8080}), 0);
    });
    const UniqueFd served = accepted(server);
    EXPECT_EQ(find(cookie_of(client))->socket.opened, BH_OPENED_BY_CONNECT);
    EXPECT_EQ(find(cookie_of(chosen))->socket.opened, BH_OPENED_BY_CONNECT);
    EXPECT_EQ(find(cookie_of(asked))->socket.opened, BH_OPENED_UNKNOWN) << "the kernel does not tell it apart";
    EXPECT_EQ(find(cookie_of(served))->socket.opened, BH_OPENED_UNKNOWN);
    server.reset();
    EXPECT_EQ(find(cookie_of(served))->socket.opened, BH_OPENED_UNKNOWN) << "also when its listener has gone";
}

TEST_F(Walk, DestroyedSocketsAreGoneForBothEnds)
{
    for (const char* address : {"10.77.0.2", "fd77::2", "::ffff:10.77.0.2"}) {
        UniqueFd theirs, client;
        const std::string plain = std::string(address).substr(std::string_view(address).starts_with("::ffff:") ? 7 : 0);
        peer([&] { theirs = listening({plain, 80}); });
        guarded([&] {
            client = make_socket(Address(address, 0).family(), SOCK_STREAM);
            ASSERT_EQ(connect_error(client, {address, 80}), 0);
        });
        const UniqueFd server = accepted(theirs);
        auto walked = find(cookie_of(client));
        ASSERT_TRUE(walked) << address;
        auto other = walked->socket;
        other.cookie += 1;
        EXPECT_FALSE(datapath_->destroy_socket(other).value());
        EXPECT_EQ(send_error(client), 0) << "another socket's cookie destroys nothing";
        const auto destroyed = datapath_->destroy_socket(walked->socket);
        ASSERT_TRUE(destroyed) << destroyed.error().message;
        EXPECT_TRUE(*destroyed);
        EXPECT_EQ(send_error(client), ECONNABORTED) << address;
        char byte = 0;
        while (::read(server.get(), &byte, 1) > 0) {
        }
        EXPECT_EQ(errno, ECONNRESET) << address;
        EXPECT_FALSE(datapath_->destroy_socket(walked->socket).value()) << "gone already is no error";
    }
}

TEST_F(Walk, ConnectedDatagramSocketsCanBeDestroyed)
{
    UniqueFd client;
    guarded([&] {
        client = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(connect_error(client, {"10.77.0.2", 53}), 0);
    });
    const auto walked = find(cookie_of(client));
    ASSERT_TRUE(walked);
    EXPECT_EQ(walked->socket.state, TCP_ESTABLISHED);
    ASSERT_TRUE(datapath_->destroy_socket(walked->socket));
    EXPECT_NE(send_error(client), 0);
}

// The kernel hands out what fits into a buffer, and shows again what did not.
TEST_F(Walk, EachOfThousandsOfSocketsHasItsOwner)
{
    std::vector<UniqueFd> sockets, doubled;
    guarded([&] {
        for (std::uint16_t port = 10'000; port < 15'000; ++port)
            sockets.push_back(bound(SOCK_DGRAM, {"10.77.0.1", port}));
    });
    for (int i = 0; i < 5'000; ++i)
        doubled.emplace_back(::dup(sockets[0].get()));
    std::size_t owned = 0;
    outsider([&] {
        const auto walked = datapath_->walk_sockets();
        ASSERT_TRUE(walked);
        for (const auto& one : *walked)
            owned += one.socket.local_port >= 10'000 && one.socket.local_port < 15'000 &&
                     one.owner.pid == static_cast<std::uint32_t>(::getpid());
    });
    EXPECT_EQ(owned, sockets.size());
}

// Before or after connect(2), by whoever may connect (Linux 5.7); a link-local address binds by itself.
TEST_F(Walk, SocketsThatAreBoundToAnInterfaceCanBeDestroyed)
{
    for (const char* address : {"10.77.0.2", "fd77::2"})
        for (const int type : {SOCK_STREAM, SOCK_DGRAM})
            for (const bool before : {true, false}) {
                UniqueFd theirs, client;
                peer([&] { theirs = type == SOCK_STREAM ? listening({address, 80}) : bound(type, {address, 80}); });
                guarded([&] {
                    client = make_socket(Address(address, 0).family(), type);
                    const auto bind = [&] {
                        ASSERT_EQ(::setsockopt(client.get(), SOL_SOCKET, SO_BINDTODEVICE, "bh0", 4), 0);
                    };
                    if (before)
                        bind();
                    ASSERT_EQ(connect_error(client, {address, 80}), 0);
                    if (!before)
                        bind();
                });
                const auto walked = find(cookie_of(client));
                ASSERT_TRUE(walked) << address;
                EXPECT_TRUE(datapath_->destroy_socket(walked->socket).value()) << address << " " << type;
                EXPECT_NE(send_error(client), 0) << address << " " << type;
            }
}

TEST_F(Walk, ListenersThatWereThereBeforeAreAdopted)
{
    datapath_.reset();
    ASSERT_TRUE(agent::detach_datapath(options()));
    UniqueFd ours, theirs, datagrams;
    guarded([&] {
        ours = listening({"0.0.0.0", 80});
        datagrams = bound(SOCK_DGRAM, {"0.0.0.0", 53});
    });
    outsider([&] { theirs = listening({"0.0.0.0", 81}); });
    auto opened = open(options());
    ASSERT_TRUE(opened);
    datapath_ = std::move(*opened);
    realise(TestPolicy().default_action(inbound, refuse));
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0) << "not yet known to be in scope"; });
    adopt();
    EXPECT_EQ(datapath_->map_use().front().entries, 2U);
    UniqueFd sender;
    peer([&] {
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), ECONNREFUSED);
        EXPECT_EQ(tcp_error({"10.77.0.1", 81}), 0);
        sender = make_socket(AF_INET, SOCK_DGRAM);
        EXPECT_EQ(send_to_error(sender, {"10.77.0.1", 53}), 0);
    });
    EXPECT_EQ(receive(datagrams).text, "");
    const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->subject.pid, static_cast<__u32>(::getpid()));
    ours.reset(); // by its release hook, although it was adopted
    EXPECT_EQ(datapath_->map_use().front().entries, 1U);
}

TEST_F(Walk, AdoptionRemovesWhatIsGoneAndKeepsWhatIsNewer)
{
    UniqueFd gone;
    guarded([&] { gone = listening({"10.77.0.1", 80}); });
    std::vector<agent::WalkedSocket> before;
    outsider([&] { before = datapath_->walk_sockets().value(); });
    UniqueFd newer;
    guarded([&] { newer = listening({"10.77.0.1", 81}); });
    std::erase_if(before, [&](const auto& walked) { return walked.socket.cookie == cookie_of(gone); });
    ASSERT_TRUE(datapath_->adopt_listeners(before));
    EXPECT_EQ(datapath_->map_use().front().entries, 1U);
    realise(TestPolicy().default_action(inbound, refuse));
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 81}), ECONNREFUSED); });
}

TEST_F(Walk, ScopeIsTheEnforcedCgroupAndAllBelow)
{
    const std::string below = world_->enforced.path() + "/below";
    const Cgroup child(below);
    EXPECT_TRUE(datapath_->in_scope(world_->enforced.id()));
    EXPECT_TRUE(datapath_->in_scope(child.id()));
    EXPECT_FALSE(datapath_->in_scope(world_->elsewhere.id()));
    EXPECT_FALSE(datapath_->in_scope(1));
    EXPECT_FALSE(datapath_->in_scope(~0ULL));
}

// Who has a cgroup of his own may make others in it, as deep as he likes, and remove them while their sockets go on.
TEST_F(Walk, CgroupsThatAreDeepOrGoneAreInScopeStill)
{
    std::vector<std::unique_ptr<Cgroup>> chain;
    std::string path = world_->enforced.path();
    for (unsigned level = 0; level < BH_CGROUP_LEVELS + 3; ++level)
        chain.push_back(std::make_unique<Cgroup>(path += "/a"));
    UniqueFd deep, of_gone, theirs;
    run_in(world_->wire.guarded, *chain.back(), [&] { deep = listening({"10.77.0.1", 80}); });
    {
        const Cgroup gone(world_->enforced.path() + "/gone");
        run_in(world_->wire.guarded, gone, [&] { of_gone = listening({"10.77.0.1", 81}); });
    }
    EXPECT_FALSE(std::filesystem::exists(world_->enforced.path() + "/gone"));
    outsider([&] { theirs = listening({"10.77.0.1", 82}); });
    realise(TestPolicy().default_action(inbound, refuse));
    adopt();
    peer([&] {
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), ECONNREFUSED);
        EXPECT_EQ(tcp_error({"10.77.0.1", 81}), ECONNREFUSED);
        EXPECT_EQ(tcp_error({"10.77.0.1", 82}), 0);
    });
    for (const auto* socket : {&deep, &of_gone}) {
        const auto walked = find(cookie_of(*socket));
        ASSERT_TRUE(walked);
        EXPECT_EQ(walked->socket.scope, BH_SCOPE_INSIDE);
    }
    while (!chain.empty())
        chain.pop_back();
}

// Of those who hold a socket by now, its owner is who listens with it, not whoever was handed it.
TEST_F(Walk, OneWhoIsHandedASocketDoesNotBecomeItsOwner)
{
    int numbers[2]{};
    ASSERT_EQ(::pipe(numbers), 0);
    const UniqueFd reader(numbers[0]), writer(numbers[1]);
    pid_t child = -1;
    guarded([&] {
        child = ::fork();
        if (child != 0)
            return;
        (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const auto server = listening({"10.77.0.1", 80});
        const int number = server.get();
        (void)!::write(writer.get(), &number, sizeof(number));
        while (true)
            (void)::pause();
    });
    int number = -1;
    ASSERT_EQ(::read(reader.get(), &number, sizeof(number)), static_cast<ssize_t>(sizeof(number)));
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
    UniqueFd ours(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
    ASSERT_TRUE(ours);
    if (child < ::getpid()) {
        (void)::kill(child, SIGKILL);
        (void)::waitpid(child, nullptr, 0);
        GTEST_SKIP() << "the kernel began anew to count processes";
    }
    const auto owner = [&] {
        const auto found = find(cookie_of(ours));
        return found ? found->owner.pid : 0;
    };
    EXPECT_EQ(owner(), static_cast<__u32>(child));
    adopt();
    EXPECT_EQ(owner(), static_cast<__u32>(child)) << "nor after the next look";
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_EQ(owner(), static_cast<__u32>(::getpid())) << "who is left";
}

} // namespace
} // namespace bulkhead::test
