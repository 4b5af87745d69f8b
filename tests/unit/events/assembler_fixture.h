// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_assembler.h"
#include "common/net/ip.h"
#include "tests/harness/fake_clock.h"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <cstring>

namespace bulkhead::agent {

inline bh_address address(const std::string& text)
{
    bh_address result{};
    std::memcpy(result.byte, IpAddress::parse(text)->bytes.data(), sizeof(result.byte));
    return result;
}

inline std::string ip(const std::string& text)
{
    const auto bytes = IpAddress::parse(text)->bytes;
    return {bytes.begin() + (IpAddress::parse(text)->is_v4() ? 12 : 0), bytes.end()};
}

// Knows processes by their pid alone, and how often it was asked.
class FakeProcesses final : public ProcessTable {
public:
    v1::Process describe(const bh_subject& subject) override
    {
        ++questions;
        v1::Process process;
        process.set_pid(subject.pid);
        process.set_exe("/bin/of-" + std::to_string(subject.pid));
        return process;
    }
    policy::ProcessFacts facts(const bh_subject&) override { return {}; }
    int questions = 0;
};

// Host api (10.0.0.1) may talk to db (10.0.0.2) on 5432 and take ssh from anywhere; the shadow plane denies 8080.
inline policy::HostPolicy api_policy()
{
    using namespace policy;
    HostPolicy policy;
    const auto rule = [&policy](const char* id, Direction direction, HostAction action, std::uint8_t planes,
                                PeerSet peers, std::uint16_t port, Protocol protocol = Protocol::tcp) {
        HostRule added;
        added.id = id;
        added.direction = direction;
        added.action = action;
        added.planes = planes;
        added.peers = std::move(peers);
        added.services = {{protocol, {port, port}}};
        policy.rules.push_back(std::move(added));
    };
    PeerSet db;
    db.identities = {7};
    PeerSet anybody;
    anybody.any = true;
    rule("failsafe/ssh", Direction::inbound, HostAction::failsafe, both_planes, anybody, 22);
    rule("shop/api-to-db", Direction::outbound, HostAction::allow, both_planes, db, 5432);
    rule("shop/dns", Direction::outbound, HostAction::allow, both_planes, anybody, 53, Protocol::udp);
    rule("shop/no-8080", Direction::outbound, HostAction::deny, plane_bit(Plane::shadow), anybody, 8080);
    rule("shop/web", Direction::inbound, HostAction::allow, both_planes, anybody, 80);
    PeerSet itself;
    itself.cidrs = {*Cidr::parse("127.0.0.0/8")};
    rule("shop/zz-itself", Direction::outbound, HostAction::allow, both_planes, itself, 9000);
    for (const auto plane : {0, 1}) {
        policy.defaults[plane][0] = {Action::allow, "shop"};
        policy.defaults[plane][1] = {Action::deny, "shop"};
        policy.loopback[plane] = {Action::deny, "shop"};
    }
    return policy;
}

inline std::shared_ptr<const PolicyView> api_view(std::uint32_t generation, std::uint64_t version)
{
    auto view = std::make_shared<PolicyView>();
    view->generation = generation;
    view->policy_version = version;
    view->policy = api_policy();
    view->addresses[*IpAddress::parse("10.0.0.2")] = {7, "db-1"};
    view->identities[7] = {7, {{"role", "db"}}, "", {"shop-db"}};
    view->active = policy::lower(view->policy, policy::Plane::active, view->addresses).value();
    view->shadow = policy::lower(view->policy, policy::Plane::shadow, view->addresses).value();
    return view;
}

class Assembler : public ::testing::Test {
protected:
    void SetUp() override
    {
        assembler = make();
        assembler->set_host({"api-1", "agent-1", "boot-1", {{"role", "api"}}, {"shop-api"}, 5});
        assembler->set_policy(api_view(1, 42));
    }
    std::unique_ptr<FlowAssembler> make(std::size_t limit = max_flows)
    {
        return make_flow_assembler(
            clock, processes, [this](v1::Record&& record) { records.push_back(std::move(record)); }, limit);
    }

    [[nodiscard]] bh_event event(bh_event_type type, std::uint8_t protocol = IPPROTO_TCP,
                                 bh_direction direction = BH_OUTBOUND) const
    {
        bh_event made{};
        made.type = static_cast<std::uint8_t>(type);
        made.protocol = protocol;
        made.direction = static_cast<std::uint8_t>(direction);
        made.time_ns = static_cast<std::uint64_t>(clock.monotonic().count());
        made.cookie = 77;
        made.local = address("10.0.0.1");
        made.remote = address("10.0.0.2");
        made.local_port = direction == BH_OUTBOUND ? 40000 : 80;
        made.remote_port = direction == BH_OUTBOUND ? 5432 : 50000;
        made.generation = 1;
        made.classes.word[0] = 1;
        made.reason = BH_REASON_RULE;
        made.shadow_reason = BH_REASON_RULE;
        return made;
    }
    [[nodiscard]] bh_event connect(std::uint32_t pid = 100) const
    {
        auto made = event(BH_EVENT_CONNECT);
        made.local = {};
        made.local_port = 0;
        made.subject.pid = pid;
        return made;
    }
    // As the kernel sends it: an outbound one says nothing of verdict and process.
    [[nodiscard]] bh_event established() const
    {
        auto made = event(BH_EVENT_ESTABLISHED);
        made.generation = 0;
        made.classes = {};
        made.reason = made.shadow_reason = 0;
        return made;
    }
    [[nodiscard]] bh_event close() const
    {
        auto made = event(BH_EVENT_CLOSE);
        made.generation = 0;
        made.classes = {};
        made.bytes_out = 1000;
        made.bytes_in = 2000;
        made.packets_out = 10;
        made.packets_in = 20;
        made.retransmits = 1;
        made.rtt_us = 300;
        made.tcp_state = 4;
        return made;
    }
    // Of the socket that the event is of, as a walk finds it.
    [[nodiscard]] std::optional<policy::Direction> direction_of(const bh_event& of) const
    {
        bh_walked_socket socket{};
        socket.cookie = of.cookie;
        socket.local = of.local;
        socket.remote = of.remote;
        socket.local_port = of.local_port;
        socket.remote_port = of.remote_port;
        socket.protocol = of.protocol;
        return assembler->direction_of(socket);
    }
    void tick(const std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>& udp = {}) { assembler->tick(counters, udp); }
    [[nodiscard]] std::uint64_t counted(const std::string& name) const { return assembler->counters().at(name); }

    test::FakeClock clock;
    FakeProcesses processes;
    std::vector<v1::Record> records;
    std::map<std::string, std::uint64_t> counters;
    std::unique_ptr<FlowAssembler> assembler;
};

} // namespace bulkhead::agent
