// SPDX-License-Identifier: Apache-2.0
// What an onlooker sees while planes change.
#include "agent/sessions/late_session.h"
#include "agent/sessions/sessions.h"
#include "tests/bpf/fixture.h"
#include "tests/bpf/frames.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <set>
#include <thread>

namespace bulkhead::test {
namespace {

class Switch : public BpfTest {};

TEST_F(Switch, OfTwoPoliciesEachDecisionSeesOneWhole)
{
    // Each policy lets exactly one of two ports pass, by different numbers of everything, and refuses by a rule.
    TestPolicy odd, even;
    odd.default_action(outbound, refuse)
        .allow(outbound, "10.77.0.0/24", "udp/1000-1001")
        .deny(outbound, "any", "udp/1000");
    even.default_action(outbound, permit).deny(outbound, "10.77.0.2", "udp/1001");
    realise(odd);
    ASSERT_EQ(datapath_->control().generation % 2, 1U);

    UniqueFd socket;
    guarded([&] { socket = make_socket(AF_INET, SOCK_DGRAM); });
    std::atomic<bool> stop = false;
    std::atomic<int> wrong = 0, seen_odd = 0, seen_even = 0;
    std::thread onlooker([&] {
        const Address first("10.77.0.2", 1000), second("10.77.0.2", 1001);
        while (!stop) {
            const auto generation = datapath_->control().generation;
            const bool allows_first = send_to_error(socket, first) == 0;
            const bool allows_second = send_to_error(socket, second) == 0;
            if (datapath_->control().generation != generation)
                continue; // a switch in between: nothing can be said of the pair
            const bool is_odd = generation % 2 == 1;
            (is_odd ? seen_odd : seen_even)++;
            if (allows_first == is_odd || allows_second != is_odd)
                wrong++;
        }
    });
    for (int i = 0; i < 60; ++i)
        ASSERT_TRUE(test::realise(*datapath_, i % 2 == 0 ? even : odd));
    stop = true;
    onlooker.join();
    EXPECT_EQ(wrong, 0);
    EXPECT_GT(seen_odd, 100);
    EXPECT_GT(seen_even, 100);
    EXPECT_EQ(datapath_->counters().at("malformed"), 0U) << "no decision found a plane taken away";
}

TEST_F(Switch, AllowedByBothNeverFails)
{
    TestPolicy a, b;
    a.default_action(outbound, refuse).allow(outbound, "10.77.0.2", "tcp/80");
    b.default_action(outbound, permit).deny(outbound, "10.77.0.3", "tcp/80");
    realise(a);
    UniqueFd server;
    peer([&] { server = listening({"0.0.0.0", 80}); });
    std::atomic<bool> stop = false;
    std::atomic<int> wrong = 0, done = 0;
    guarded([&] {
        std::thread client([&] {
            while (!stop) {
                wrong += tcp_error({"10.77.0.2", 80}) != 0;
                wrong += tcp_error({"10.77.0.3", 80}) != EPERM;
                const UniqueFd accepted(
                    ::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC)); // and closed: it may be long
                ++done;
            }
        });
        for (int i = 0; i < 40; ++i)
            EXPECT_TRUE(test::realise(*datapath_, i % 2 == 0 ? b : a));
        stop = true;
        client.join();
    });
    EXPECT_EQ(wrong, 0);
    EXPECT_GT(done, 40);
}

TEST_F(Switch, FailedRealisationChangesNothing)
{
    realise(TestPolicy().default_action(outbound, refuse));
    const auto before = datapath_->control();
    auto broken = TestPolicy().plane(policy::Plane::active);
    broken.port_classes.resize(17);
    const auto whole = TestPolicy().plane(policy::Plane::shadow);
    const auto result = datapath_->realise({&whole, &broken, {}});
    ASSERT_FALSE(result);
    EXPECT_EQ(datapath_->control().generation, before.generation);
    EXPECT_EQ(datapath_->control().active_slot, before.active_slot);
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 80}), EPERM); });
    realise(TestPolicy().default_action(outbound, permit));
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 80}), ECONNREFUSED); });
}

TEST_F(Switch, TooManyFacetsAreRefusedWhole)
{
    realise(TestPolicy().default_action(outbound, refuse));
    agent::FacetTable facets(70000);
    for (std::size_t i = 0; i < facets.size(); ++i)
        facets[i].key = {i, 0, BH_FACET_USER};
    const auto plane = TestPolicy().plane(policy::Plane::active);
    EXPECT_FALSE(datapath_->realise({&plane, &plane, facets}));
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 80}), EPERM); });
}

TEST_F(Switch, HundredThousandAddressesAreRealised)
{
    policy::HostPolicy host;
    host.defaults[0][0] = host.defaults[1][0] = {refuse, "test"};
    policy::HostRule rule;
    rule.id = "test/many";
    rule.peers.identities = {1};
    rule.services = {{policy::Protocol::tcp, {80, 80}}};
    host.rules = {rule};
    policy::AddressBook book;
    for (std::uint32_t i = 0; i < 100000; ++i)
        book[IpAddress::from_v4(0x0a800000 + i)] = {1, "w"};
    const auto active = policy::lower(host, policy::Plane::active, book).value();
    const auto shadow = policy::lower(host, policy::Plane::shadow, book).value();
    ASSERT_TRUE(datapath_->realise({&active, &shadow, {}}));
    bh_judge_request requests[2]{};
    requests[0].remote = abi_address("10.129.134.159"); // the last
    requests[1].remote = abi_address("10.129.134.160");
    for (auto& request : requests) {
        request.port = 80;
        request.protocol = 6;
    }
    ASSERT_TRUE(datapath_->judge(requests));
    EXPECT_EQ(requests[0].verdict, BH_ALLOWED);
    EXPECT_EQ(requests[1].verdict, BH_DENIED);
}

// A SYN that the old policy let in, whose handshake ends under the new one. No walk finds it in between.
TEST_F(Switch, AHandshakeThatEndsUnderAnotherPolicyIsTold)
{
    const std::string stranger = "10.77.0.9"; // the peer's kernel does not know it, and so does not reset what is sent
    ip(world_->wire.guarded, "neigh replace " + stranger + " lladdr 02:77:00:00:00:02 dev bh0 nud permanent");
    realise(TestPolicy().default_action(inbound, permit));
    UniqueFd server;
    guarded([&] { server = listening({"10.77.0.1", 80}); });
    Sniffer sniffer(world_->wire.peer);
    peer([&] { ASSERT_EQ(send_frame(tcp_segment(stranger, "10.77.0.1", 4000, 80, TH_SYN, 100, 0)), 0); });
    const auto sequence = sniffer.syn_ack();
    ASSERT_TRUE(sequence);

    realise(TestPolicy().default_action(inbound, refuse));
    peer([&] { ASSERT_EQ(send_frame(tcp_segment(stranger, "10.77.0.1", 4000, 80, TH_ACK, 101, *sequence + 1)), 0); });
    const auto established = wait_for([](const bh_event& event) { return event.type == BH_EVENT_ESTABLISHED; });
    ASSERT_TRUE(established);
    EXPECT_EQ(established->verdict, BH_DENIED);
    EXPECT_TRUE(agent::is_late(*established)) << "the agent destroys it at this word";
    const auto session = agent::late_session(*established);
    EXPECT_TRUE(datapath_->destroy_socket(session.socket.socket));
    const UniqueFd connection = accepted(server);
    char byte = 0;
    EXPECT_LE(::recv(connection.get(), &byte, 1, 0), 0);
}

TEST_F(Switch, WhatDoesNotFitChangesNothing)
{
    realise(TestPolicy().default_action(outbound, refuse));
    const auto before = datapath_->control();
    agent::FacetTable too_many;
    for (std::uint64_t i = 0; i <= 65536; ++i)
        too_many.push_back({{i, 0, BH_FACET_USER}, {{1, 0, 0, 0}}});
    const auto refused = test::realise(*datapath_, TestPolicy().default_action(outbound, permit), too_many);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("bh_facets"), std::string::npos);
    EXPECT_EQ(datapath_->control().generation, before.generation);
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 80}), EPERM); });
    EXPECT_TRUE(datapath_->look_for_tampering().empty());
    const agent::FacetTable some(too_many.begin(), too_many.begin() + 1000);
    ASSERT_TRUE(test::realise(*datapath_, TestPolicy().default_action(outbound, permit), some));
    EXPECT_FALSE(datapath_->update_facets(datapath_->control().generation, too_many));
    EXPECT_TRUE(datapath_->look_for_tampering().empty()) << "all rows are those from before";
    guarded([&] { EXPECT_EQ(tcp_error({"10.77.0.2", 80}), ECONNREFUSED); });
    const auto use = datapath_->map_use();
    const auto facets =
        std::find_if(use.begin(), use.end(), [](const agent::MapUse& one) { return one.name == "facets"; });
    ASSERT_NE(facets, use.end());
    EXPECT_EQ(facets->entries, 1000U);
    EXPECT_EQ(facets->capacity, 65536U);
}

// An array is full from the start, and what is in it has its place.
bool can_fill_up(const bpf_map_info& info)
{
    return info.type == BPF_MAP_TYPE_HASH || info.type == BPF_MAP_TYPE_LRU_HASH || info.type == BPF_MAP_TYPE_RINGBUF;
}

TEST_F(Switch, EveryMapThatCanFillUpHasItsUseTold)
{
    realise(TestPolicy().default_action(outbound, refuse).allow(outbound, "10.77.0.2", "tcp/80"));
    std::set<std::string> told;
    for (const auto& use : datapath_->map_use()) {
        told.insert(use.name);
        EXPECT_TRUE(use.sized_to_content || use.capacity > 0) << use.name;
    }
    for (const char* of_plane : {"peers", "prefixes", "entries"})
        EXPECT_TRUE(told.contains(std::string("active_") + of_plane)) << of_plane;
    std::size_t seen = 0;
    for (const auto& pin : std::filesystem::directory_iterator(options().pin_dir + "/test/maps")) {
        const UniqueFd map(bpf_obj_get(pin.path().c_str()));
        bpf_map_info info{};
        __u32 size = sizeof(info);
        ASSERT_EQ(bpf_obj_get_info_by_fd(map.get(), &info, &size), 0);
        if (!can_fill_up(info))
            continue;
        ++seen;
        EXPECT_TRUE(told.contains(pin.path().filename().string().substr(3))) << pin.path();
    }
    EXPECT_GE(seen, 8U);
}

} // namespace
} // namespace bulkhead::test
