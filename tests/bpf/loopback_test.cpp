// SPDX-License-Identifier: Apache-2.0
// What stays on the host: two units of it, by loopback addresses, by its own, by the unspecified one.
#include "agent/sessions/sessions.h"
#include "tests/bpf/fixture.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace bulkhead::test {
namespace {

constexpr __u64 any_process = 1;
constexpr __u64 app_class = 2;
constexpr __u64 web_class = 4;
constexpr std::uint16_t app = 1, web = 2; // process classes
constexpr auto shadow_only = policy::plane_bit(policy::Plane::shadow);

const std::vector<std::string> loopback_names{"127.0.0.1", "127.0.0.9", "::1",           "::ffff:127.0.0.1",
                                              "0.0.0.0",   "::",        "::ffff:0.0.0.0"};
const std::vector<std::string> own_names{"10.77.0.1", "::ffff:10.77.0.1", "fd77::1"};

std::vector<std::string> all_names()
{
    auto all = loopback_names;
    all.insert(all.end(), own_names.begin(), own_names.end());
    return all;
}

int family_of(const std::string& name)
{
    return Address(name, 1).family();
}

class Loopback : public BpfTest {
protected:
    void SetUp() override
    {
        BpfTest::SetUp();
        if (IsSkipped())
            return;
        app_ = std::make_unique<Cgroup>(world_->enforced.path() + "/app");
        web_ = std::make_unique<Cgroup>(world_->enforced.path() + "/web");
    }
    void TearDown() override
    {
        app_.reset();
        web_.reset();
        BpfTest::TearDown();
    }
    void in_app(const std::function<void()>& work) const { run_in(world_->wire.guarded, *app_, work); }
    void in_web(const std::function<void()>& work) const { run_in(world_->wire.guarded, *web_, work); }

    void realise_units(TestPolicy policy)
    {
        agent::FacetTable table;
        for (const __u32 each : {BH_FACET_USER, BH_FACET_CGROUP, BH_FACET_EXECUTABLE})
            table.push_back({{0, 0, each | BH_FACET_DEFAULT},
                             {{each == BH_FACET_CGROUP ? any_process : any_process | app_class | web_class, 0, 0, 0}}});
        table.push_back({{app_->id(), 0, BH_FACET_CGROUP}, {{any_process | app_class, 0, 0, 0}}});
        table.push_back({{web_->id(), 0, BH_FACET_CGROUP}, {{any_process | web_class, 0, 0, 0}}});
        realise(policy.process_classes(2), std::move(table));
    }
    // Only `app` may begin, and only `web` may hear.
    static TestPolicy app_to_web()
    {
        TestPolicy policy;
        policy.loopback(refuse);
        for (const char* peers : {"127.0.0.0/8", "::1"})
            for (const char* service : {"tcp/80", "udp/53"})
                policy.rule(policy::HostAction::allow, outbound, peers, service, app)
                    .rule(policy::HostAction::allow, inbound, peers, service, web);
        return policy;
    }
    void serve()
    {
        tcp_ = listening({"::", 80});
        udp_ = bound(SOCK_DGRAM, {"::", 53});
    }
    [[nodiscard]] std::string heard(const UniqueFd& sender, const std::string& name) const
    {
        EXPECT_EQ(send_to_error(sender, {name, 53}, name), 0) << name;
        return receive(udp_, std::chrono::milliseconds(100)).text;
    }

    std::unique_ptr<Cgroup> app_, web_;
    UniqueFd tcp_, udp_;
};

TEST_F(Loopback, WhoMayBeginIsJudgedByEveryNameOfTheHost)
{
    realise_units(app_to_web());
    in_web([&] { serve(); });
    for (const auto& name : all_names()) {
        in_app([&] {
            EXPECT_EQ(tcp_error({name, 80}), 0) << name;
            EXPECT_EQ(tcp_error({name, 81}), EPERM) << name;
            EXPECT_EQ(udp_connect_error({name, 53}), 0) << name;
            EXPECT_EQ(udp_connect_error({name, 54}), EPERM) << name;
            EXPECT_EQ(heard(make_socket(family_of(name), SOCK_DGRAM), name), name);
        });
        in_web([&] {
            EXPECT_EQ(tcp_error({name, 80}), EPERM) << name;
            EXPECT_EQ(udp_connect_error({name, 53}), EPERM) << name;
            const UniqueFd sender = make_socket(family_of(name), SOCK_DGRAM);
            EXPECT_EQ(send_to_error(sender, {name, 53}), EPERM) << name;
        });
    }
}

TEST_F(Loopback, WhoMayHearIsJudgedByEveryNameOfTheHost)
{
    realise_units(app_to_web());
    in_app([&] { serve(); }); // not the unit that may
    for (const auto& name : all_names())
        in_app([&] {
            EXPECT_EQ(tcp_error({name, 80}), ECONNREFUSED) << name;
            EXPECT_EQ(heard(make_socket(family_of(name), SOCK_DGRAM), name), "") << name;
        });
}

TEST_F(Loopback, AnswersPass)
{
    realise_units(app_to_web());
    in_web([&] { serve(); });
    for (const auto& name : all_names()) {
        if (name == "127.0.0.9") // from a wildcard socket the kernel answers with 127.0.0.1
            continue;
        UniqueFd asker;
        in_app([&] {
            asker = make_socket(family_of(name), SOCK_DGRAM);
            EXPECT_EQ(send_to_error(asker, {name, 53}, "question"), 0) << name;
        });
        const auto question = receive(udp_);
        ASSERT_EQ(question.text, "question") << name;
        in_web([&] { EXPECT_EQ(reply_error(udp_, question, "answer"), 0) << name; });
        EXPECT_EQ(receive(asker).text, "answer") << name;
    }
}

TEST_F(Loopback, WiderRulesSayNothingOfIt)
{
    TestPolicy open;
    open.loopback(refuse).default_action(outbound, permit).default_action(inbound, permit);
    for (const char* peers : {"any", "0.0.0.0/0", "::/0", "126.0.0.0/7", "10.77.0.0/24", "fd77::/64"})
        open.allow(outbound, peers, "tcp/80").allow(inbound, peers, "tcp/80");
    realise(open);
    in_web([&] { serve(); });
    for (const auto& name : all_names())
        in_app([&] { EXPECT_EQ(tcp_error({name, 80}), EPERM) << name; });

    TestPolicy shut;
    shut.default_action(outbound, refuse).default_action(inbound, refuse);
    for (const char* peers : {"any", "0.0.0.0/0", "::/0", "126.0.0.0/7", "10.77.0.0/24", "fd77::/64"})
        shut.deny(outbound, peers, "tcp/80").deny(inbound, peers, "tcp/80");
    realise(shut);
    for (const auto& name : all_names())
        in_app([&] { EXPECT_EQ(tcp_error({name, 80}), 0) << name; });
}

TEST_F(Loopback, ARuleForbidsWhatTheDefaultAllows)
{
    realise(TestPolicy().deny(outbound, "127.0.0.9", "tcp/80").deny(inbound, "::1", "tcp/80"));
    in_web([&] { serve(); });
    in_app([&] {
        EXPECT_EQ(tcp_error({"127.0.0.1", 80}), 0);
        EXPECT_EQ(tcp_error({"127.0.0.9", 80}), EPERM) << "as it was called";
        EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0) << "stands for 127.0.0.1";
        EXPECT_EQ(tcp_error({"::1", 80}), ECONNREFUSED);
        EXPECT_EQ(tcp_error({"fd77::1", 80}), ECONNREFUSED);
    });
}

TEST_F(Loopback, FromAnOwnAddressToALoopbackOneStaysLoopback)
{
    realise_units(app_to_web());
    in_app([&] { serve(); });
    in_app([&] {
        const UniqueFd client = bound(SOCK_STREAM, {"10.77.0.1", 0});
        EXPECT_EQ(connect_error(client, {"127.0.0.1", 80}), ECONNREFUSED) << "app may begin, and not hear";
        const UniqueFd to_itself = bound(SOCK_STREAM, {"10.77.0.1", 0});
        EXPECT_EQ(connect_error(to_itself, {"0.0.0.0", 80}), ECONNREFUSED);
        const UniqueFd mapped = bound(SOCK_STREAM, {"::ffff:10.77.0.1", 0});
        EXPECT_EQ(connect_error(mapped, {"::", 80}), ECONNREFUSED);
    });
}

TEST_F(Loopback, WhatFindsNobodyIsNotTold)
{
    realise(TestPolicy().deny(inbound, "127.0.0.1", "tcp/1-65535"));
    in_app([&] { EXPECT_EQ(tcp_error({"127.0.0.1", 9}), ECONNREFUSED); });
    EXPECT_EQ(drained_count([](const bh_event& event) { return event.type == BH_EVENT_DENY; }), 0U);
    in_app([&] { serve(); });
    in_app([&] { EXPECT_EQ(tcp_error({"127.0.0.1", 80}), ECONNREFUSED); });
    EXPECT_EQ(drained_count([](const bh_event& event) { return event.type == BH_EVENT_DENY; }), 1U);
}

TEST_F(Loopback, RefusalsAreToldByTheAddressThatWasCalled)
{
    realise(TestPolicy().loopback(refuse));
    for (const auto& [name, kind] : {std::pair{"127.0.0.9", BH_LOOPBACK_ADDRESS}, {"fd77::1", BH_LOOPBACK_OWN}}) {
        in_app([&, address = name] { EXPECT_EQ(tcp_error({address, 80}), EPERM); });
        const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
        ASSERT_TRUE(denied) << name;
        const auto remote = abi_address(name);
        EXPECT_EQ(std::memcmp(&denied->remote, &remote, sizeof(remote)), 0) << name;
        EXPECT_EQ(denied->loopback, kind) << name;
        EXPECT_EQ(denied->reason, BH_REASON_DEFAULT);
        EXPECT_EQ(denied->remote_port, 80);
        EXPECT_NE(denied->subject.pid, 0U);
    }
}

TEST_F(Loopback, FlowsToOwnAddressesAreToldAndThoseToLoopbackNot)
{
    realise(TestPolicy().deny(outbound, "127.0.0.9", "tcp/9"));
    in_web([&] { serve(); });
    in_app([&] {
        EXPECT_EQ(tcp_error({"127.0.0.1", 80}), 0);
        EXPECT_EQ(heard(make_socket(AF_INET, SOCK_DGRAM), "127.0.0.1"), "127.0.0.1");
    });
    for (const bh_event& event : drain())
        EXPECT_TRUE(event.type == BH_EVENT_LISTEN || event.type == BH_EVENT_UNLISTEN) << unsigned{event.type};
    in_app([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 80}), 0); });
    const auto connect = wait_for([](const bh_event& event) { return event.type == BH_EVENT_CONNECT; });
    ASSERT_TRUE(connect);
    EXPECT_EQ(connect->reason, BH_REASON_LOCAL);
    const auto established = wait_for(
        [](const bh_event& event) { return event.type == BH_EVENT_ESTABLISHED && event.direction == BH_INBOUND; });
    ASSERT_TRUE(established);
    EXPECT_EQ(established->reason, BH_REASON_LOCAL);
}

TEST_F(Loopback, ShadowPlaneOnlyReports)
{
    realise(TestPolicy().loopback(refuse, shadow_only));
    in_web([&] { serve(); });
    in_app([&] { EXPECT_EQ(tcp_error({"127.0.0.1", 80}), 0); });
    for (const auto direction : {BH_OUTBOUND, BH_INBOUND}) {
        const auto told = wait_for(
            [direction](const bh_event& event) { return event.type == BH_EVENT_DENY && event.direction == direction; });
        ASSERT_TRUE(told) << direction;
        EXPECT_EQ(told->verdict, BH_ALLOWED);
        EXPECT_EQ(told->shadow_verdict, BH_DENIED);
    }
}

TEST_F(Loopback, OwnAddressesAreFollowed)
{
    realise(TestPolicy().default_action(outbound, refuse));
    const auto refused = [&](const char* name) {
        int error = 0;
        in_app([&] { error = tcp_error({name, 9}); });
        return error == EPERM;
    };
    EXPECT_FALSE(refused("10.77.0.1"));
    EXPECT_TRUE(refused("10.77.0.7"));
    ip(world_->wire.guarded, "addr add 10.77.0.7/24 dev bh0");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_FALSE(refused("10.77.0.7"));
    ip(world_->wire.guarded, "addr del 10.77.0.7/24 dev bh0");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_TRUE(refused("10.77.0.7"));
    // One that is down gives its addresses to whoever else has them.
    ip(world_->wire.guarded, "link set bh0 down");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_TRUE(refused("10.77.0.1"));
}

TEST_F(Loopback, ALinkLocalAddressIsAPeers)
{
    realise(TestPolicy().default_action(outbound, refuse));
    ip(world_->wire.guarded, "addr add fe80::77/64 dev bh0 nodad");
    ASSERT_TRUE(datapath_->follow_interfaces());
    in_app([&] { EXPECT_EQ(tcp_error({"fe80::77", 9}), EPERM) << "another link may have it, too"; });
}

class LoopbackSessions : public Loopback {
protected:
    struct Connection {
        UniqueFd client, server;
    };
    Connection connected(const std::string& name) const
    {
        Connection made;
        in_app([&] {
            made.client = make_socket(family_of(name), SOCK_STREAM);
            EXPECT_EQ(connect_error(made.client, {name, 80}), 0) << name;
        });
        made.server = accepted(tcp_);
        return made;
    }
    static bool lives(const Connection& connection)
    {
        return send_error(connection.client, "ping") == 0 && receive(connection.server).text == "ping";
    }
    // A walk finds this process behind both ends, so rules about processes would not tell them apart.
    static TestPolicy port_80_and_53()
    {
        TestPolicy policy;
        policy.loopback(refuse);
        for (const char* peers : {"127.0.0.0/8", "::1"})
            for (const char* service : {"tcp/80", "udp/53"})
                policy.allow(outbound, peers, service).allow(inbound, peers, service);
        return policy;
    }
    agent::SessionKeeper keeper() const
    {
        return {*datapath_, system_clock(), [](const bh_walked_socket&) { return std::nullopt; }};
    }
};

TEST_F(LoopbackSessions, CutEndsWhatIsForbiddenNow)
{
    realise(port_80_and_53());
    in_web([&] { serve(); });
    std::vector<Connection> connections;
    for (const auto& name : all_names())
        connections.push_back(connected(name));
    auto sessions = keeper();
    const auto none = sessions.after_switch({policy::Sessions::Kind::cut, {}});
    ASSERT_TRUE(none) << none.error().message;
    EXPECT_EQ(none->size(), 0U) << "both ends are allowed";
    for (const auto& connection : connections)
        EXPECT_TRUE(lives(connection));

    realise(TestPolicy().loopback(refuse));
    auto kept = keeper();
    const auto told = kept.after_switch({policy::Sessions::Kind::keep, {}});
    ASSERT_TRUE(told);
    EXPECT_EQ(told->size(), 2 * connections.size()) << "both ends";
    for (const auto& connection : connections)
        EXPECT_TRUE(lives(connection));
    const auto cut = sessions.after_switch({policy::Sessions::Kind::cut, {}});
    ASSERT_TRUE(cut);
    for (const auto& connection : connections) {
        EXPECT_NE(send_error(connection.server), 0);
        EXPECT_NE(send_error(connection.client), 0);
    }
}

TEST_F(LoopbackSessions, OneWhoseListenerIsGoneIsNotTakenForItsClient)
{
    realise(port_80_and_53());
    in_web([&] { serve(); });
    const auto connection = connected("127.0.0.1");
    tcp_.reset();
    auto sessions = keeper();
    const auto cut = sessions.after_switch({policy::Sessions::Kind::cut, {}});
    ASSERT_TRUE(cut);
    EXPECT_EQ(cut->size(), 0U);
    EXPECT_TRUE(lives(connection));
}

TEST_F(LoopbackSessions, CutForgetsConversations)
{
    realise(port_80_and_53());
    in_web([&] { serve(); });
    UniqueFd asker;
    in_app([&] {
        asker = make_socket(AF_INET, SOCK_DGRAM);
        EXPECT_EQ(heard(asker, "127.0.0.1"), "127.0.0.1");
    });
    EXPECT_EQ(datapath_->udp_flows()->size(), 2U) << "seen from both ends";
    realise(TestPolicy().loopback(refuse));
    auto sessions = keeper();
    ASSERT_TRUE(sessions.after_switch({policy::Sessions::Kind::cut, {}}));
    EXPECT_EQ(datapath_->udp_flows()->size(), 0U);
    in_app([&] { EXPECT_EQ(send_to_error(asker, {"127.0.0.1", 53}), EPERM); });
}

} // namespace
} // namespace bulkhead::test
