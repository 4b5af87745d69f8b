// SPDX-License-Identifier: Apache-2.0
// What reaches sockets in a network namespace in which no inbound door stands.
#include "tests/bpf/container.h"
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace bulkhead::test {
namespace {

using namespace std::chrono_literals;

class Ingress : public BpfTest {
protected:
    void reopen(const agent::IngressOptions& ingress)
    {
        datapath_.reset();
        ingress_ = ingress;
        auto opened = open(options());
        ASSERT_TRUE(opened) << opened.error().message;
        datapath_ = std::move(*opened);
    }
    void allow_only_10_78_0_2()
    {
        realise(TestPolicy()
                    .default_action(inbound, refuse)
                    .allow(inbound, "10.78.0.2", "tcp/80")
                    .allow(inbound, "10.78.0.2", "udp/53")
                    .allow(inbound, "fd78::2", "tcp/80"));
    }
    // Joined past the guard, and with somebody who hears in it. The agent has not looked for it.
    [[nodiscard]] std::unique_ptr<Container> unknown() const
    {
        auto container = std::make_unique<Container>(world_->enforced);
        container->join(world_->wire.peer);
        ip(container->netns(), "addr add fd78::1/64 dev eth0 nodad");
        ip(world_->wire.peer, "addr add fd78::2/64 dev bh1 nodad");
        ip(world_->wire.peer, "addr add fd78::3/64 dev bh1 nodad");
        return container;
    }
    void inside(const Container& container, const std::function<void()>& work) const
    {
        run_in(container.netns(), world_->enforced, work);
    }
    // What is dropped without an answer: EINPROGRESS.
    [[nodiscard]] int error_from(const Address& from, const Address& to) const
    {
        int error = -1;
        peer([&] {
            const UniqueFd socket = bound(SOCK_STREAM, from);
            const timeval soon{0, 900'000};
            (void)::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &soon, sizeof(soon));
            error = connect_error(socket, to);
        });
        return error;
    }
    [[nodiscard]] std::string pin() const { return options().pin_dir + "/test/links/ingress"; }
    // A macvlan on the interface `lower` of `host`.
    static void give_macvlan(const Netns& host, const char* lower, const Container& container)
    {
        const auto place = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(container.netns().fd());
        ip(host, std::string("link add mv0 link ") + lower + " netns " + place + " type macvlan");
    }
    static constexpr agent::IngressOptions always{true, true}, when_needed{true, false}, never{false, false};
    const Address service{"10.78.0.1", 80}, friendly{"10.78.0.2", 0}, hostile{"10.78.0.3", 0};
};

TEST_F(Ingress, WhereNoDoorStandsTheSocketIsAsked)
{
    reopen(always);
    EXPECT_TRUE(datapath_->judges_at_sockets());
    allow_only_10_78_0_2();
    const auto container = unknown();
    UniqueFd server, client;
    inside(*container, [&] { server = listening({"::", 80}); });
    EXPECT_EQ(error_from(hostile, service), EINPROGRESS);
    const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
    ASSERT_TRUE(denied);
    EXPECT_EQ(std::memcmp(&denied->remote, abi_address("10.78.0.3").byte, 16), 0);
    EXPECT_EQ(std::memcmp(&denied->local, abi_address("10.78.0.1").byte, 16), 0);
    EXPECT_EQ(denied->local_port, 80);
    EXPECT_EQ(denied->direction, BH_INBOUND);
    EXPECT_EQ(denied->subject.cgroup_id, world_->enforced.id());
    EXPECT_EQ(error_from({"fd78::3", 0}, {"fd78::1", 80}), EINPROGRESS);
    EXPECT_EQ(error_from({"fd78::2", 0}, {"fd78::1", 80}), 0);
    (void)accepted(server);

    peer([&] {
        client = bound(SOCK_STREAM, friendly);
        ASSERT_EQ(connect_error(client, service), 0);
    });
    const UniqueFd end = accepted(server);
    ASSERT_EQ(send_error(client, "asked"), 0);
    EXPECT_EQ(receive(end).text, "asked");
    ASSERT_EQ(send_error(end, "answered"), 0);
    EXPECT_EQ(receive(client).text, "answered");
}

TEST_F(Ingress, DatagramsAreJudgedThereAndAnswered)
{
    reopen(always);
    allow_only_10_78_0_2();
    const auto container = unknown();
    UniqueFd server, asking, from_friend, from_foe, answering;
    inside(*container, [&] {
        server = bound(SOCK_DGRAM, {"0.0.0.0", 53});
        asking = bound(SOCK_DGRAM, {"0.0.0.0", 0});
    });
    peer([&] {
        from_friend = bound(SOCK_DGRAM, friendly);
        from_foe = bound(SOCK_DGRAM, hostile);
        answering = bound(SOCK_DGRAM, {"10.78.0.3", 5353});
    });
    ASSERT_EQ(send_to_error(from_foe, {"10.78.0.1", 53}, "no"), 0);
    ASSERT_EQ(send_to_error(from_friend, {"10.78.0.1", 53}, "yes"), 0);
    const auto question = receive(server);
    EXPECT_EQ(question.text, "yes");
    ASSERT_EQ(reply_error(server, question, "answer"), 0);
    EXPECT_EQ(receive(from_friend).text, "answer");
    EXPECT_EQ(receive(server, 100ms).text, "");
    // An answer is no arrival.
    ASSERT_EQ(send_to_error(asking, {"10.78.0.3", 5353}, "asked"), 0);
    ASSERT_EQ(reply_error(answering, receive(answering), "answered"), 0);
    EXPECT_EQ(receive(asking).text, "answered");
}

TEST_F(Ingress, WhatIsBornWhileNoAgentRunsIsJudged)
{
    reopen(always);
    allow_only_10_78_0_2();
    datapath_.reset();
    const auto container = unknown();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from(hostile, service), EINPROGRESS);
    EXPECT_EQ(error_from(friendly, service), 0);
}

TEST_F(Ingress, WhereADoorStandsItIsThatWhichAnswers)
{
    reopen(always);
    allow_only_10_78_0_2();
    const auto container = unknown();
    (void)datapath_->follow_namespaces();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from(hostile, service), ECONNREFUSED);
    EXPECT_EQ(error_from(friendly, service), 0);
    EXPECT_EQ(drained_count([](const bh_event& event) { return event.type == BH_EVENT_DENY; }), 1U);
}

// Nobody has told which addresses are its own.
TEST_F(Ingress, WhatStaysInTheNamespaceIsNoPeers)
{
    reopen(always);
    allow_only_10_78_0_2();
    const auto container = unknown();
    ip(container->netns(), "link set lo up");
    inside(*container, [&] {
        const UniqueFd server = listening({"0.0.0.0", 80});
        EXPECT_EQ(tcp_error(service), 0);
        EXPECT_EQ(tcp_error({"127.0.0.1", 80}), 0);
    });
}

// Of IPv6 anybody may send in anybody's name (IPV6_FREEBIND), and by lo no guard sees it.
TEST_F(Ingress, WhatIsSentInAPeersNameOpensNothingToThatPeer)
{
    reopen(always);
    realise(TestPolicy()
                .default_action(inbound, refuse)
                .default_action(outbound, refuse)
                .allow(inbound, "fd78::2", "udp/53")
                .allow(outbound, "fd78::1", "udp/53"));
    const auto container = unknown();
    ip(container->netns(), "link set lo up");
    UniqueFd server, friends, foes;
    inside(*container, [&] {
        server = bound(SOCK_DGRAM, {"::", 53});
        const auto forge = [](const char* name) {
            const auto forger = make_socket(AF_INET6, SOCK_DGRAM);
            set_option(forger, SOL_IPV6, IPV6_FREEBIND, 1);
            const Address from(name, 5353);
            ASSERT_EQ(::bind(forger.get(), from.get(), from.size), 0);
            ASSERT_EQ(send_to_error(forger, {"fd78::1", 53}, "forged"), 0);
        };
        forge("fd78::3");
        EXPECT_EQ(receive(server).text, "") << "from whom nothing may come";
        forge("fd78::2");
    });
    peer([&] {
        friends = bound(SOCK_DGRAM, {"fd78::2", 5353});
        foes = bound(SOCK_DGRAM, {"fd78::3", 5353});
    });
    const auto forged = receive(server);
    EXPECT_EQ(forged.text, "forged");
    inside(*container, [&] { EXPECT_EQ(reply_error(server, forged, "leaked"), EPERM); });
    ASSERT_EQ(send_to_error(foes, {"fd78::1", 53}, "no"), 0);
    EXPECT_EQ(receive(server).text, "");
    ASSERT_EQ(send_to_error(friends, {"fd78::1", 53}, "yes"), 0);
    const auto asked = receive(server);
    EXPECT_EQ(asked.text, "yes");
    inside(*container, [&] { EXPECT_EQ(reply_error(server, asked, "answer"), 0); });
    EXPECT_EQ(receive(friends).text, "answer");
}

TEST_F(Ingress, WhatIsSentToAllIsHeardByTheSendersOwn)
{
    reopen(always);
    allow_only_10_78_0_2();
    const auto container = unknown();
    UniqueFd server, foe;
    inside(*container, [&] {
        server = bound(SOCK_DGRAM, {"0.0.0.0", 53});
        const auto sender = bound(SOCK_DGRAM, service);
        set_option(sender, SOL_SOCKET, SO_BROADCAST, 1);
        ASSERT_EQ(send_to_error(sender, {"10.78.0.255", 53}, "own"), 0);
    });
    EXPECT_EQ(receive(server).text, "own");
    peer([&] {
        foe = bound(SOCK_DGRAM, hostile);
        set_option(foe, SOL_SOCKET, SO_BROADCAST, 1);
        ASSERT_EQ(send_to_error(foe, {"10.78.0.255", 53}, "no"), 0);
    });
    EXPECT_EQ(receive(server).text, "");
}

TEST_F(Ingress, WithoutAPolicyEverythingPasses)
{
    reopen(always);
    const auto container = unknown();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from(hostile, service), 0);
}

TEST_F(Ingress, ItIsAttachedWhenANamespaceIsReachedPastTheGuard)
{
    reopen(when_needed);
    allow_only_10_78_0_2();
    const auto joined = unknown(); // by a veth pair
    EXPECT_FALSE(datapath_->follow_namespaces().trouble);
    EXPECT_FALSE(datapath_->judges_at_sockets());
    const Container stacked(world_->enforced);
    give_macvlan(joined->netns(), "eth0", stacked); // anybody may do so with namespaces of his own
    EXPECT_FALSE(datapath_->follow_namespaces().trouble);
    EXPECT_FALSE(datapath_->judges_at_sockets());
    EXPECT_FALSE(std::filesystem::exists(pin()));

    const Container direct(world_->enforced);
    give_macvlan(world_->wire.guarded, "bh0", direct);
    EXPECT_FALSE(datapath_->follow_namespaces().trouble);
    EXPECT_TRUE(datapath_->judges_at_sockets());
    EXPECT_TRUE(std::filesystem::exists(pin()));
    EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
    const auto later = std::make_unique<Container>(world_->enforced);
    ip(world_->wire.peer, "link del bh1");
    later->join(world_->wire.peer);
    UniqueFd server;
    inside(*later, [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from(hostile, service), EINPROGRESS);
}

TEST_F(Ingress, ItIsAttachedForAnInterfaceThatIsMadeToBeGivenAway)
{
    reopen(when_needed);
    EXPECT_FALSE(datapath_->judges_at_sockets());
    ip(world_->wire.guarded, "link add mv0 link bh0 type macvlan");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_TRUE(datapath_->judges_at_sockets()) << "before anybody had the time to move it";
    // And stays until somebody does not want it.
    reopen(when_needed);
    EXPECT_TRUE(datapath_->judges_at_sockets());
    reopen(never);
    EXPECT_FALSE(datapath_->judges_at_sockets());
    EXPECT_FALSE(std::filesystem::exists(pin()));
    ip(world_->wire.guarded, "link del mv0");
    ip(world_->wire.guarded, "link add mv0 link bh0 type macvlan");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_FALSE(datapath_->follow_namespaces().trouble);
    EXPECT_FALSE(datapath_->judges_at_sockets());
}

// Which any address of 240.0.0.0/4 is.
TEST_F(Ingress, AnAddressLikeOthersIsNoGroups)
{
    reopen(always);
    allow_only_10_78_0_2();
    const auto container = unknown();
    ip(container->netns(), "addr add 240.0.0.1/24 dev eth0");
    ip(world_->wire.peer, "addr add 240.0.0.3/24 dev bh1");
    UniqueFd server, datagrams, foe, group;
    inside(*container, [&] {
        server = listening({"0.0.0.0", 80});
        datagrams = bound(SOCK_DGRAM, {"0.0.0.0", 53});
    });
    EXPECT_EQ(error_from({"240.0.0.3", 0}, {"240.0.0.1", 80}), EINPROGRESS);
    peer([&] { foe = bound(SOCK_DGRAM, {"240.0.0.3", 0}); });
    ASSERT_EQ(send_to_error(foe, {"240.0.0.1", 53}), 0);
    EXPECT_EQ(receive(datagrams, 200ms).text, "");
}

TEST_F(Ingress, WhatIsSaidOfANamespaceBeforeIsNotSaidOfTheNextOne)
{
    reopen(always);
    allow_only_10_78_0_2();
    const auto container = unknown();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    const UniqueFd rows(bpf_obj_get((options().pin_dir + "/test/maps/bh_namespaces").c_str()));
    const std::uint32_t number = container->inode();
    for (const std::uint64_t cookie : {std::uint64_t{0}, ~std::uint64_t{0}}) {
        bh_namespace row{};
        row.cookie = cookie;
        row.followed = 1;
        ASSERT_EQ(bpf_map_update_elem(rows.get(), &number, &row, BPF_ANY), 0);
        EXPECT_EQ(error_from(hostile, service), EINPROGRESS);
    }
}

// A bind tells of it as of one that is not followed, and may do so in the moment in which it is entered as followed.
TEST_F(Ingress, WhereADoorStandsThatIsKnownInTheEnd)
{
    reopen(always);
    const auto container = unknown();
    (void)datapath_->follow_namespaces();
    const UniqueFd rows(bpf_obj_get((options().pin_dir + "/test/maps/bh_namespaces").c_str()));
    const std::uint32_t number = container->inode();
    bh_namespace row{};
    ASSERT_EQ(bpf_map_lookup_elem(rows.get(), &number, &row), 0);
    ASSERT_NE(row.cookie, 0U);
    const __u64 cookie = row.cookie;
    for (const auto& [lost_cookie, lost_followed] : {std::pair<__u64, __u8>{cookie, 0}, std::pair<__u64, __u8>{0, 1}}) {
        row.cookie = lost_cookie;
        row.followed = lost_followed;
        ASSERT_EQ(bpf_map_update_elem(rows.get(), &number, &row, BPF_ANY), 0);
        EXPECT_FALSE(datapath_->follow_namespaces().trouble);
        ASSERT_EQ(bpf_map_lookup_elem(rows.get(), &number, &row), 0);
        EXPECT_EQ(row.cookie, cookie);
        EXPECT_EQ(row.followed, 1U);
    }
}

// Somebody else may have the address by now.
TEST_F(Ingress, AnAddressOfANamespaceBeforeIsNotTheNextOnes)
{
    reopen(always);
    allow_only_10_78_0_2();
    // Its addresses are known, and stay so when the agent ends.
    const auto container = unknown();
    ip(container->netns(), "addr add 10.78.0.3/24 dev eth0");
    EXPECT_FALSE(datapath_->follow_namespaces().trouble);
    datapath_.reset();
    ip(container->netns(), "addr del 10.78.0.3/24 dev eth0");
    const UniqueFd rows(bpf_obj_get((options().pin_dir + "/test/maps/bh_namespaces").c_str()));
    const UniqueFd gate(
        bpf_obj_get((options().pin_dir + "/test/links/sk_lookup_" + std::to_string(container->inode())).c_str()));
    const std::uint32_t number = container->inode();
    ASSERT_EQ(bpf_map_delete_elem(rows.get(), &number), 0);
    ASSERT_EQ(bpf_link_detach(gate.get()), 0);
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from(hostile, service), EINPROGRESS);
}

// As when the table was full, or the agent never saw it.
TEST_F(Ingress, WhoIsNotInTheTableIsJudgedAsAnybody)
{
    reopen(always);
    allow_only_10_78_0_2();
    const auto container = unknown();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    const UniqueFd table(bpf_obj_get((options().pin_dir + "/test/maps/bh_listeners").c_str()));
    bh_listener_key key{};
    key.address = abi_address("0.0.0.0");
    key.port = 80;
    key.protocol = IPPROTO_TCP;
    key.netns = container->inode();
    ASSERT_EQ(bpf_map_delete_elem(table.get(), &key), 0);
    EXPECT_EQ(error_from(hostile, service), EINPROGRESS);
    EXPECT_EQ(error_from(friendly, service), 0);
}

TEST_F(Ingress, AConnectionIsToldOfOnce)
{
    reopen(always);
    realise(TestPolicy().default_action(inbound, refuse, policy::plane_bit(policy::Plane::shadow)));
    const auto container = unknown();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    const auto before = datapath_->counters();
    EXPECT_EQ(error_from(hostile, service), 0);
    EXPECT_EQ(datapath_->counters().at("would_deny_in") - before.at("would_deny_in"), 1U);
}

// Somebody else's program, with whom nobody may share a cgroup.
class Lonely {
public:
    explicit Lonely(const Cgroup& cgroup) : cgroup_(::open(cgroup.path().c_str(), O_DIRECTORY | O_CLOEXEC))
    {
        bpf_insn pass[2]{};
        pass[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
        pass[0].imm = 1;
        pass[1].code = BPF_JMP | BPF_EXIT;
        LIBBPF_OPTS(bpf_prog_load_opts, load, .expected_attach_type = BPF_CGROUP_INET_INGRESS);
        program_ = UniqueFd(bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "lonely", "GPL", pass, std::size(pass), &load));
        EXPECT_EQ(bpf_prog_attach(program_.get(), cgroup_.get(), BPF_CGROUP_INET_INGRESS, 0), 0);
    }
    Lonely(const Lonely&) = delete;
    Lonely& operator=(const Lonely&) = delete;
    ~Lonely() { leave(); }
    void leave() const { (void)bpf_prog_detach2(program_.get(), cgroup_.get(), BPF_CGROUP_INET_INGRESS); }

private:
    UniqueFd cgroup_, program_;
};

TEST_F(Ingress, WithoutItNothingBeginsWhereItIsWantedAlways)
{
    datapath_.reset();
    ASSERT_TRUE(agent::detach_datapath(options()));
    const Lonely lonely(world_->enforced);
    ingress_ = always;
    const auto opened = open(options());
    ASSERT_FALSE(opened);
    EXPECT_THAT(opened.error().message, testing::HasSubstr("ingress"));
    EXPECT_FALSE(std::filesystem::exists(agent::pin_folder(options())));
}

TEST_F(Ingress, WhatStandsInItsWayIsTold)
{
    const Lonely lonely(world_->enforced);
    ip(world_->wire.guarded, "link add mv0 link bh0 type macvlan");
    for (const auto& told : {datapath_->follow_interfaces(), datapath_->follow_interfaces()}) {
        ASSERT_FALSE(told);
        EXPECT_THAT(told.error().message, testing::HasSubstr("ingress"));
    }
    EXPECT_FALSE(datapath_->judges_at_sockets());
    ip(world_->wire.guarded, "link del mv0"); // it may have been moved
    lonely.leave();
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_TRUE(datapath_->judges_at_sockets());
}

TEST_F(Ingress, ItIsPutBack)
{
    reopen(always);
    allow_only_10_78_0_2();
    const UniqueFd link(bpf_obj_get(pin().c_str()));
    ASSERT_EQ(bpf_link_detach(link.get()), 0);
    const auto found = datapath_->look_for_tampering();
    ASSERT_EQ(found.size(), 1U);
    EXPECT_THAT(found[0].what, testing::HasSubstr("ingress"));
    EXPECT_EQ(found[0].failure, "");
    const auto container = unknown();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from(hostile, service), EINPROGRESS);
}

// As service meshes have it: what the namespace begins is handed to a proxy in it, from an address that nobody has
// told.
TEST_F(Ingress, WhatASidecarTakesStaysInItsNamespace)
{
    reopen(always);
    realise(TestPolicy().default_action(inbound, refuse).default_action(outbound, permit));
    const auto container = unknown();
    ip(container->netns(), "link set lo up");
    bool redirects = false;
    inside(*container, [&] {
        redirects = std::system("nft 'add table ip s; add chain ip s out { type nat hook output priority -100; };"
                                " add rule ip s out tcp dport 80 redirect to :15001' 2>/dev/null") == 0;
        const auto sidecar = listening({"127.0.0.1", 15001});
        EXPECT_TRUE(!redirects || tcp_error({"10.78.0.2", 80}) == 0);
    });
    if (!redirects)
        GTEST_SKIP() << "no nat here";
}

} // namespace
} // namespace bulkhead::test
