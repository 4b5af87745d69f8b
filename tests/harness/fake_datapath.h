// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>

namespace bulkhead::test {

// A kernel side that holds what the test puts into it. Every call is recorded.
class FakeDatapath : public agent::Datapath {
public:
    std::vector<agent::WalkedSocket> sockets;
    std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>> flows;
    std::function<bool(const bh_judge_request&)> denies = [](const auto&) { return false; };
    std::set<std::uint64_t> outside; // cgroup ids that are not in scope
    bool walk_destroys = false;
    std::set<std::uint64_t> undestroyable;            // cookies
    std::map<std::uint64_t, std::uint64_t> hidden_by; // not found until the other is destroyed
    std::set<std::uint32_t> newcomers_judged;
    agent::Counters counter_values;
    std::vector<bh_event> events;
    std::vector<bh_denial> denials;

    std::vector<bh_judge_request> judged;
    std::vector<std::uint64_t> destroyed; // cookies
    std::vector<bh_udp_flow_key> forgotten;
    std::vector<agent::FacetTable> facet_updates;
    std::size_t walks = 0, adoptions = 0, scope_questions = 0, searches = 0;
    bool listener_table_is_full = false;
    bh_control control_word{BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, 0};

    Result<std::uint32_t> realise(const agent::Realisation&) override
    {
        control_word.active_slot = 0;
        control_word.shadow_slot = 1;
        return ++control_word.generation;
    }
    [[nodiscard]] std::uint32_t next_generation() const override { return control_word.generation + 1; }
    [[nodiscard]] agent::TrialState trial() const override { return {}; }
    Status confirm() override { return fail(ErrorKind::refused, "no trial is under way"); }
    Status fall_back() override { return fail(ErrorKind::refused, "no trial is under way"); }
    Status update_facets(std::uint32_t, const agent::FacetTable& facets) override
    {
        facet_updates.push_back(facets);
        return {};
    }
    Status clear() override
    {
        control_word.active_slot = control_word.shadow_slot = BH_SLOT_NONE;
        return {};
    }
    [[nodiscard]] bh_control control() const override { return control_word; }

    Status judge(std::span<bh_judge_request> requests) override
    {
        for (auto& request : requests) {
            request.verdict = denies(request) ? BH_DENIED : BH_ALLOWED;
            request.reason = BH_REASON_RULE;
            IpAddress remote;
            std::memcpy(remote.bytes.data(), request.remote.byte, remote.bytes.size());
            request.loopback = remote.is_loopback() ? BH_LOOPBACK_ADDRESS : BH_LOOPBACK_NONE;
            request.generation = control_word.generation;
            judged.push_back(request);
        }
        return {};
    }
    Result<std::vector<agent::WalkedSocket>> walk_sockets() override
    {
        ++walks;
        const std::set<std::uint64_t> gone(destroyed.begin(), destroyed.end());
        std::erase_if(sockets, [&gone](const auto& walked) { return gone.contains(walked.socket.cookie); });
        return sockets;
    }
    Result<std::vector<agent::WalkedSocket>> walk_sockets_in(const std::set<std::uint32_t>& namespaces) override
    {
        BULKHEAD_TRY(auto walked, walk_sockets());
        std::erase_if(walked, [&](const auto& one) { return !namespaces.contains(one.socket.netns); });
        return walked;
    }
    void judged_newcomers(const std::set<std::uint32_t>& namespaces) override
    {
        newcomers_judged.insert(namespaces.begin(), namespaces.end());
    }
    bool in_scope(std::uint64_t cgroup_id) override
    {
        ++scope_questions;
        return !outside.contains(cgroup_id);
    }
    Result<bool> destroy_socket(const bh_walked_socket& socket) override
    {
        if (undestroyable.contains(socket.cookie))
            return fail(ErrorKind::failed, "cannot destroy the socket");
        if (!can_be_found(socket))
            return false;
        destroyed.push_back(socket.cookie);
        return true;
    }
    Result<std::uint64_t> find_socket(const bh_walked_socket& socket) override
    {
        ++searches;
        for (const auto& [other, owner] : sockets)
            if (other.netns == socket.netns && other.protocol == socket.protocol &&
                other.local_port == socket.local_port && other.remote_port == socket.remote_port &&
                std::memcmp(&other.local, &socket.local, sizeof(socket.local)) == 0 &&
                std::memcmp(&other.remote, &socket.remote, sizeof(socket.remote)) == 0 && can_be_found(other))
                return other.cookie;
        return std::uint64_t{0};
    }
    bool destroys_in_walk() override { return walk_destroys; }
    std::unordered_set<std::uint64_t> destroy_in_walk(std::span<const bh_walked_socket* const> condemned) override
    {
        std::unordered_set<std::uint64_t> done;
        for (const auto* socket : condemned)
            if (!undestroyable.contains(socket->cookie)) {
                done.insert(socket->cookie);
                destroyed.push_back(socket->cookie);
            }
        return done;
    }
    Status adopt_listeners(std::span<const agent::WalkedSocket>) override
    {
        ++adoptions;
        if (listener_table_is_full)
            return fail(ErrorKind::failed, "write the listener table: Argument list too long");
        return {};
    }
    Result<std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>> udp_flows() override { return flows; }
    Status forget_udp_flow(const bh_udp_flow_key& key) override
    {
        forgotten.push_back(key);
        return {};
    }
    Result<std::size_t> consume(const EventSink& sink, const Settle& settle, std::chrono::milliseconds) override
    {
        const auto ready = std::exchange(events, {});
        std::for_each(ready.begin(), ready.end(), sink);
        settle();
        return ready.size();
    }
    Status take_denials(const DenialSink& sink) override
    {
        sink(std::exchange(denials, {}));
        return {};
    }
    agent::Counters counters() override { return counter_values; }
    std::vector<agent::MapUse> map_use() override { return {}; }

private:
    [[nodiscard]] bool can_be_found(const bh_walked_socket& socket) const
    {
        const auto gone = [this](std::uint64_t cookie) {
            return std::find(destroyed.begin(), destroyed.end(), cookie) != destroyed.end();
        };
        const auto before = hidden_by.find(socket.cookie);
        return !gone(socket.cookie) && (before == hidden_by.end() || gone(before->second));
    }
};

} // namespace bulkhead::test
