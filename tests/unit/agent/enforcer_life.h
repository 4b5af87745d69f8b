// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/daemon/enforcer.h"
#include "agent/daemon/failsafe.h"
#include "tests/harness/fake_clock.h"
#include "tests/harness/temp_dir.h"
#include "tests/unit/agent/scripted_datapath.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <utility>

namespace bulkhead::agent {

class CountingSubjects final : public SubjectResolver {
public:
    FacetTable resolve(const std::vector<policy::ProcessCondition>& processes,
                       std::chrono::milliseconds patience) override
    {
        last_patience = patience;
        auto rows = table;
        for (auto& row : rows)
            row.classes.word[0] += processes.size(); // every policy numbers classes in its own way
        std::exchange(while_looking, [] {})();
        return rows;
    }
    FacetTable with_cgroups_of_now(const std::vector<policy::ProcessCondition>&, FacetTable known) override
    {
        ++cgroup_looks;
        for (const auto& row : new_cgroups)
            if (std::none_of(known.begin(), known.end(),
                             [&](const auto& one) { return one.key.value == row.key.value; }))
                known.push_back(row);
        return known;
    }
    [[nodiscard]] std::vector<std::string> unmatched() const override { return missing; }
    FacetTable table;
    FacetTable new_cgroups; // that resolve() has not seen
    std::size_t cgroup_looks = 0;
    std::vector<std::string> missing;
    std::function<void()> while_looking = [] {}; // once
    std::chrono::milliseconds last_patience{};
};

inline wire::HostState state_of(std::uint64_t version, const std::string& rule_id = "web/in")
{
    wire::HostState state;
    state.generation = version;
    state.policy_version = version;
    state.policy.segments = {"web"};
    state.policy.defaults[0][1] = state.policy.defaults[1][1] = {policy::Action::deny, "web"};
    policy::HostRule rule;
    rule.id = rule_id;
    rule.direction = policy::Direction::inbound;
    rule.peers.identities = {1};
    rule.services = {{policy::Protocol::tcp, {80, 80}}};
    state.policy.rules = {rule};
    state.identities[1] = {1, {{"role", "api"}}, "", {"api"}};
    state.addresses[*IpAddress::parse("192.0.2.1")] = {1, "api-1"};
    state.own_labels = {{"role", "web"}};
    return state;
}

inline std::vector<policy::HostRule> failsafes(const char* controller = nullptr)
{
    FailsafeInputs inputs;
    inputs.management = {*Cidr::parse("192.0.2.0/24")};
    inputs.controller_port = 7443;
    if (controller != nullptr)
        inputs.controller = {*IpAddress::parse(controller)};
    return failsafe_rules(inputs);
}

inline constexpr const char* boot = "0e0f3a1c-boot";

// One life of an agent's enforcer; a second one over the same folder and kernel is a restart.
struct Life {
    Life(test::ScriptedDatapath& datapath, const std::string& dir, const std::string& boot_id = boot)
        : kernel(datapath), saved(dir), saved_quarantine(dir),
          sessions(datapath, clock, [](auto) { return std::nullopt; }),
          enforcer(datapath, subjects, sessions, {saved, saved_quarantine}, clock, boot_id,
                   {[this](auto view) { views.push_back(std::move(view)); },
                    [this](const auto& lapse) { lapses.push_back(lapse); },
                    [this](const auto& hold) { quarantines_over.push_back(hold); },
                    [this](auto rows) {
                        for (const FacetRow& row : rows)
                            gone.emplace_back(row.key.value, kernel.facet_updates.size());
                    }})
    {
        kernel.now = [this] { return clock.monotonic(); };
    }
    Status resume(std::vector<policy::HostRule> rules = failsafes()) { return enforcer.resume(std::move(rules), {}); }

    test::ScriptedDatapath& kernel;
    test::FakeClock clock;
    CountingSubjects subjects;
    PolicyState saved;
    QuarantineState saved_quarantine;
    SessionKeeper sessions;
    std::vector<std::shared_ptr<const PolicyView>> views;
    std::vector<Enforcer::Lapse> lapses;
    std::vector<QuarantineHold> quarantines_over;
    std::vector<std::pair<std::uint64_t, std::size_t>> gone; // values of facets, and how many updates were before
    Enforcer enforcer;
};

} // namespace bulkhead::agent
