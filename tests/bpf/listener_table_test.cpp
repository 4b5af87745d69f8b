// SPDX-License-Identifier: Apache-2.0
// Ways to make the listener table lose a socket that listens, or never to enter it: with a narrow cgroup, what the
// table does not know is not judged.
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sched.h>

#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace bulkhead::test {
namespace {

class ListenerTable : public BpfTest {
protected:
    void SetUp() override
    {
        BpfTest::SetUp();
        if (!IsSkipped())
            realise(TestPolicy().default_action(inbound, refuse).default_action(outbound, refuse));
    }

    static UniqueFd sharing(const Address& address, bool v6only = false)
    {
        UniqueFd socket = make_socket(address.family(), SOCK_STREAM);
        set_option(socket, SOL_SOCKET, SO_REUSEPORT, 1);
        if (v6only)
            set_option(socket, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        EXPECT_EQ(::bind(socket.get(), address.get(), address.size), 0);
        return socket;
    }

    static UniqueFd listening_shared(const Address& address)
    {
        UniqueFd socket = sharing(address);
        EXPECT_EQ(::listen(socket.get(), 8), 0);
        return socket;
    }

    void expect_refused(const Address& address) const
    {
        peer([&] { EXPECT_EQ(tcp_error(address), ECONNREFUSED); });
    }
};

TEST_F(ListenerTable, RefusedConnectsOfASharerDoNotHideTheListener)
{
    UniqueFd listener;
    guarded([&] {
        listener = listening_shared({"10.77.0.1", 80});
        const UniqueFd sharer = sharing({"10.77.0.1", 80});
        for (int i = 0; i < 4; ++i)
            EXPECT_EQ(connect_error(sharer, {"10.77.0.2", 9}), EPERM);
    });
    expect_refused({"10.77.0.1", 80});
}

class ListenerShares : public ListenerTable {
protected:
    // The sockets that get a place, until one does not.
    static std::vector<UniqueFd> take(std::size_t at_most)
    {
        std::vector<UniqueFd> taken;
        for (; taken.size() < at_most; ++next_) {
            UniqueFd socket = make_socket(AF_INET, SOCK_DGRAM);
            const Address to("127.0.0." + std::to_string(1 + next_ / 50'000 % 250),
                             static_cast<std::uint16_t>(1024 + next_ % 50'000));
            if (::bind(socket.get(), to.get(), to.size) != 0)
                break;
            taken.push_back(std::move(socket));
        }
        return taken;
    }
    [[nodiscard]] std::size_t taken_by(uid_t user, std::size_t at_most) const
    {
        std::size_t taken = 0;
        guarded([&] { as_user(user, [&] { taken = take(at_most).size(); }); });
        return taken;
    }
    static inline std::size_t next_ = 0;
};

TEST_F(ListenerShares, NobodyTakesTheWholeTable)
{
    std::vector<UniqueFd> held, more;
    guarded([&] {
        as_user(1000, [&] { held = take(BH_LISTENERS); });
        as_user(100'001, [&] { more = take(10); }); // whose subuid that may be
    });
    EXPECT_EQ(held.size(), BH_LISTENERS_OF_ONE);
    EXPECT_EQ(more.size(), 0U);
    for (const uid_t user : {33U, 101U, 62'000U, 0U})
        EXPECT_EQ(taken_by(user, 100), 100U) << user;
    held.clear();
    EXPECT_EQ(taken_by(1001, BH_LISTENERS), BH_LISTENERS_OF_ONE) << "what is closed is not counted";
    EXPECT_EQ(taken_by(1001, 100), 100U);
}

// Whatever the kernel has lost count of: rows that the agent has removed, or found.
TEST_F(ListenerShares, AWalkCountsAnew)
{
    const UniqueFd holders(bpf_obj_get((options().pin_dir + "/test/maps/bh_listener_holders").c_str()));
    const __u32 holder = bh_holder_of(1000);
    std::vector<UniqueFd> held;
    guarded([&] { as_user(1000, [&] { held = take(10); }); });
    __s32 count = 0;
    ASSERT_EQ(bpf_map_lookup_elem(holders.get(), &holder, &count), 0);
    EXPECT_EQ(count, 10);
    count = 1'000'000;
    ASSERT_EQ(bpf_map_update_elem(holders.get(), &holder, &count, BPF_ANY), 0);
    EXPECT_EQ(taken_by(1000, 1), 0U);
    outsider([&] {
        const auto sockets = datapath_->walk_sockets();
        ASSERT_TRUE(sockets);
        EXPECT_TRUE(datapath_->adopt_listeners(*sockets));
    });
    ASSERT_EQ(bpf_map_lookup_elem(holders.get(), &holder, &count), 0);
    EXPECT_EQ(count, 10);
    EXPECT_EQ(taken_by(1000, 1), 1U);
}

TEST_F(ListenerTable, ClientsThatBindTheListenersPortDoNotHideIt)
{
    realise(TestPolicy().default_action(inbound, refuse).default_action(outbound, permit));
    UniqueFd listener, theirs;
    peer([&] { theirs = listening({"10.77.0.2", 9}); });
    guarded([&] {
        listener = listening_shared({"10.77.0.1", 80});
        for (int i = 0; i < 3; ++i) {
            const UniqueFd client = sharing({"10.77.0.1", 80});
            (void)connect_error(client, {"10.77.0.2", 9});
        }
    });
    expect_refused({"10.77.0.1", 80});
}

TEST_F(ListenerTable, TheOlderOfTwoListenersIsStillKnownWhenTheNewerWent)
{
    UniqueFd older;
    guarded([&] {
        older = listening_shared({"10.77.0.1", 80});
        (void)listening_shared({"10.77.0.1", 80});
    });
    expect_refused({"10.77.0.1", 80});
    // A socket of another namespace with the same address and port says nothing about it.
    guarded([&] {
        ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
        const UniqueFd foreign = sharing({"0.0.0.0", 80});
        (void)connect_error(foreign, {"10.77.0.2", 9});
    });
    expect_refused({"10.77.0.1", 80});
}

TEST_F(ListenerTable, AV6OnlySharerDoesNotHideIpv4)
{
    UniqueFd dual;
    UniqueFd narrow;
    guarded([&] {
        dual = listening_shared({"::", 80});
        narrow = sharing({"::", 80}, true);
    });
    expect_refused({"10.77.0.1", 80});
    expect_refused({"fd77::1", 80});
    guarded([&] { ASSERT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value())); });
    expect_refused({"10.77.0.1", 80});
}

TEST_F(ListenerTable, ASocketThatOnlySentToLoopbackHearsNoStranger)
{
    UniqueFd socket;
    guarded([&] {
        socket = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(socket, {"127.0.0.1", 9}), 0);
    });
    peer([&] {
        const UniqueFd stranger = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(stranger, {"10.77.0.1", port_of(socket)}), 0);
    });
    char byte = 0;
    EXPECT_EQ(::recv(socket.get(), &byte, 1, MSG_DONTWAIT), -1);
}

TEST_F(ListenerTable, ASocketWhoseDatagramWasRefusedHearsNoStranger)
{
    UniqueFd socket;
    guarded([&] {
        socket = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(socket, {"10.77.0.2", 9}), EPERM);
    });
    ASSERT_NE(port_of(socket), 0);
    peer([&] {
        const UniqueFd stranger = make_socket(AF_INET, SOCK_DGRAM);
        ASSERT_EQ(send_to_error(stranger, {"10.77.0.1", port_of(socket)}), 0);
    });
    char byte = 0;
    EXPECT_EQ(::recv(socket.get(), &byte, 1, MSG_DONTWAIT), -1);
}

TEST_F(ListenerTable, WhoListensOnLoopbackIsKnown)
{
    guarded([&] {
        const UniqueFd tcp = listening({"127.0.0.1", 80});
        const UniqueFd udp = bound(SOCK_DGRAM, {"::1", 53});
        EXPECT_EQ(datapath_->map_use().front().entries, 2U);
        ASSERT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value()));
        EXPECT_EQ(datapath_->map_use().front().entries, 2U);
    });
    EXPECT_EQ(datapath_->map_use().front().entries, 0U);
}

TEST_F(ListenerTable, ABindThatFindsNoRoomFails)
{
    guarded([&] {
        std::vector<UniqueFd> sockets;
        int refused = 0;
        for (int i = 0; i < 17'000 && refused == 0; ++i) { // the table holds 16,384
            UniqueFd socket = make_socket(AF_INET, SOCK_DGRAM);
            ASSERT_TRUE(socket) << errno;
            const Address address("10.77.0.1", static_cast<std::uint16_t>(20'000 + i));
            if (::bind(socket.get(), address.get(), address.size) != 0)
                refused = errno;
            sockets.push_back(std::move(socket));
        }
        EXPECT_EQ(refused, EPERM);
        EXPECT_GT(datapath_->counters().at("listeners_full"), 0U);
    });
}

class UnboundSenders : public ListenerTable {
protected:
    // Of a socket of UDP that is bound to no address; nullopt: there is none.
    [[nodiscard]] std::optional<bh_listener> row(std::uint16_t port) const
    {
        const UniqueFd table(bpf_obj_get((options().pin_dir + "/test/maps/bh_listeners").c_str()));
        const bh_listener_key key = key_of(port);
        bh_listener found{};
        return bpf_map_lookup_elem(table.get(), &key, &found) == 0 ? std::optional(found) : std::nullopt;
    }
    // What becomes of another socket's row at the port of this one.
    [[nodiscard]] std::optional<bh_listener> row_after_sending(const UniqueFd& socket, const bh_listener& others) const
    {
        const UniqueFd table(bpf_obj_get((options().pin_dir + "/test/maps/bh_listeners").c_str()));
        const bh_listener_key key = key_of(port_of(socket));
        EXPECT_EQ(bpf_map_update_elem(table.get(), &key, &others, BPF_ANY), 0);
        EXPECT_EQ(send_to_error(socket, {"127.0.0.1", 9}), 0);
        return row(port_of(socket));
    }
    [[nodiscard]] bh_listener_key key_of(std::uint16_t port) const
    {
        bh_listener_key key{};
        key.address = abi_address("0.0.0.0");
        key.port = port;
        key.protocol = IPPROTO_UDP;
        key.netns = world_->wire.guarded.inode();
        return key;
    }
};

// A socket that sent unbound loses its port when it is disconnected, which no hook shows.
TEST_F(UnboundSenders, TakeThePlaceOfWhatAnotherLeft)
{
    for (const auto state : {BH_LISTENER_BOUND, BH_LISTENER_LISTENING})
        guarded([&] {
            const auto socket = make_socket(AF_INET, SOCK_DGRAM);
            ASSERT_EQ(send_to_error(socket, {"127.0.0.1", 9}), 0);
            auto left = row(port_of(socket));
            ASSERT_TRUE(left);
            left->cookie = 12345;
            left->owner.uid = 4321;
            left->state = static_cast<__u8>(state);
            const auto now = row_after_sending(socket, *left);
            ASSERT_TRUE(now);
            EXPECT_EQ(now->cookie, cookie_of(socket));
            EXPECT_NE(now->owner.uid, 4321U);
            EXPECT_EQ(now->sharers, 0U);
        });
}

// As it may of who has it by bind(2), with SO_REUSEADDR. Who of them hears, only the kernel knows.
TEST_F(UnboundSenders, ThatGetAnothersPortDoNotSpeakAsItsOwner)
{
    guarded([&] {
        const auto socket = make_socket(AF_INET, SOCK_DGRAM);
        set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
        ASSERT_EQ(send_to_error(socket, {"127.0.0.1", 9}), 0);
        auto others = row(port_of(socket));
        ASSERT_TRUE(others);
        for (const __u32 sharers : {0U, 1U}) {
            others->cookie = 12345;
            others->owner.uid = 4321;
            others->state = BH_LISTENER_LISTENING;
            others->sharers = sharers;
            const auto now = row_after_sending(socket, *others);
            ASSERT_TRUE(now);
            EXPECT_EQ(now->owner.uid, 4321U);
            EXPECT_EQ(now->mixed, 1);
        }
    });
}

} // namespace
} // namespace bulkhead::test
