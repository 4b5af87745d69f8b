// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>

namespace bulkhead::test {

// A kernel that remembers what was realised, refuses when told to, and calls back in the middle of a switch.
class ScriptedDatapath final : public agent::Datapath {
public:
    bh_control word{BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, 0};
    std::optional<std::string> refusal;
    bool predecessor_is_in_quarantine = false; // another version decides
    std::optional<std::uint32_t> predecessors; // its generation
    std::uint32_t skip_generations = 0;
    std::function<void()> during_switch = [] {};
    std::size_t switches = 0, adoptions = 0;
    std::vector<agent::FacetTable> facet_updates;

    struct Trial {
        MonotonicTime until{};
        bh_control fallback{};
    };
    std::optional<Trial> on_trial;
    std::function<MonotonicTime()> now = [] { return MonotonicTime{}; };
    std::uint32_t last_generation = 0;
    std::map<std::uint32_t, agent::FacetTable> facets_of; // by generation
    bool facets_fail = false;                             // halfway

    void pin(std::uint32_t generation)
    {
        word = {0, 1, BH_ABI_VERSION, 0, generation};
        last_generation = std::max(last_generation, generation);
    }

    Result<std::uint32_t> realise(const agent::Realisation& realisation) override
    {
        during_switch();
        if (refusal)
            return fail(ErrorKind::failed, "{}", *refusal);
        ++switches;
        predecessors.reset();
        const auto fallback = on_trial ? on_trial->fallback : word;
        on_trial.reset();
        if (realisation.until)
            on_trial = Trial{*realisation.until, fallback};
        pin(next_generation() + std::exchange(skip_generations, 0));
        word.flags = realisation.flags;
        facets_of[word.generation] = realisation.facets;
        return word.generation;
    }
    [[nodiscard]] std::optional<std::string> pending_takeover() const override
    {
        return predecessors ? std::optional<std::string>("other maps") : std::nullopt;
    }
    [[nodiscard]] std::optional<std::uint32_t> pending_generation() const override { return predecessors; }
    [[nodiscard]] bool in_quarantine() const override
    {
        return predecessor_is_in_quarantine || agent::Datapath::in_quarantine();
    }
    [[nodiscard]] std::uint32_t next_generation() const override
    {
        return std::max(word.generation, last_generation) + 1;
    }
    [[nodiscard]] agent::TrialState trial() const override
    {
        using Phase = agent::TrialState::Phase;
        if (!on_trial)
            return {};
        return {now() < on_trial->until ? Phase::running : Phase::lapsed, on_trial->until, word.generation,
                on_trial->fallback.generation};
    }
    Status confirm() override
    {
        if (trial().phase != agent::TrialState::Phase::running)
            return fail(ErrorKind::refused, "no trial is under way");
        on_trial.reset();
        return {};
    }
    Status fall_back() override
    {
        if (!on_trial)
            return fail(ErrorKind::refused, "no trial is under way");
        word = on_trial->fallback;
        on_trial.reset();
        return {};
    }
    Status update_facets(std::uint32_t generation, const agent::FacetTable& rows) override
    {
        if (generation != control().generation && !(on_trial && generation == on_trial->fallback.generation))
            return fail(ErrorKind::refused, "generation {} is not in force", generation);
        if (facets_fail) {
            facets_of[generation].clear();
            return fail(ErrorKind::failed, "no room");
        }
        facet_updates.push_back(rows);
        facets_of[generation] = rows;
        return {};
    }
    Status clear() override
    {
        word.active_slot = word.shadow_slot = BH_SLOT_NONE;
        on_trial.reset();
        return {};
    }
    [[nodiscard]] bh_control control() const override
    {
        return trial().phase == agent::TrialState::Phase::lapsed ? on_trial->fallback : word;
    }
    Status judge(std::span<bh_judge_request>) override { return {}; }
    Result<std::vector<agent::WalkedSocket>> walk_sockets() override { return std::vector<agent::WalkedSocket>{}; }
    Result<std::vector<agent::WalkedSocket>> walk_sockets_in(const std::set<std::uint32_t>&) override
    {
        return std::vector<agent::WalkedSocket>{};
    }
    void judged_newcomers(const std::set<std::uint32_t>&) override {}
    bool in_scope(std::uint64_t) override { return true; }
    Result<bool> destroy_socket(const bh_walked_socket&) override { return true; }
    Result<std::uint64_t> find_socket(const bh_walked_socket& socket) override { return socket.cookie; }
    bool destroys_in_walk() override { return false; }
    std::unordered_set<std::uint64_t> destroy_in_walk(std::span<const bh_walked_socket* const>) override { return {}; }
    Status adopt_listeners(std::span<const agent::WalkedSocket>) override
    {
        ++adoptions;
        return {};
    }
    Result<std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>> udp_flows() override
    {
        return std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>{};
    }
    Status forget_udp_flow(const bh_udp_flow_key&) override { return {}; }
    Result<std::size_t> consume(const EventSink&, const Settle&, std::chrono::milliseconds) override
    {
        return std::size_t{0};
    }
    Status take_denials(const DenialSink&) override { return {}; }
    agent::Counters counters() override { return {}; }
    std::vector<agent::MapUse> map_use() override { return {}; }
};

} // namespace bulkhead::test
