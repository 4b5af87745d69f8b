// SPDX-License-Identifier: Apache-2.0
#include "common/policy/compile.h"
#include "common/policy/evaluate.h"
#include "common/policy/plane_image.h"
#include "tests/harness/random_policy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>

namespace bulkhead::policy {

// GoogleTest finds it by the argument's namespace.
static void PrintTo(const Evaluation& evaluation, std::ostream* out)
{
    *out << (evaluation.verdict == BH_DENIED ? "denied" : "allowed") << " reason " << evaluation.reason << " '"
         << evaluation.rule << "'";
}

namespace {

constexpr int worlds = 1500;
constexpr int hosts_a_world = 2;
constexpr int attempts_a_host = 12; // in both planes: 72,000 answers

// One host of one world, compiled.
struct Compiled {
    HostPolicy policy;
    PlaneImage planes[2];

    [[nodiscard]] Evaluation answer(Plane plane, const Attempt& attempt) const
    {
        const auto verdict = judge(planes[static_cast<std::size_t>(plane)], policy,
                                   {attempt.direction, attempt.protocol, attempt.peer, attempt.port, attempt.now},
                                   classes_of(policy.processes, attempt.process));
        Evaluation result{verdict.verdict, verdict.reason, {}};
        if (verdict.rule)
            result.rule = policy.rules[*verdict.rule].id;
        else if (verdict.reason == BH_REASON_DEFAULT && attempt.peer.is_loopback())
            result.rule = policy.loopback[static_cast<std::size_t>(plane)].segment + "/default-loopback";
        else if (verdict.reason == BH_REASON_DEFAULT)
            result.rule =
                policy.defaults[static_cast<std::size_t>(plane)][static_cast<std::size_t>(attempt.direction)].segment +
                (attempt.direction == Direction::inbound ? "/default-inbound" : "/default-outbound");
        return result;
    }
};

Compiled compiled(const PolicySet& policy, const Inventory& inventory, const Workload& own)
{
    const auto identities = build_identities(policy, inventory, harness::counting_numbers());
    Compiled result;
    result.policy = compile_host(policy, identities.identities, own.labels, own.name).value();
    for (const auto plane : {Plane::active, Plane::shadow})
        result.planes[static_cast<std::size_t>(plane)] = lower(result.policy, plane, identities.addresses).value();
    return result;
}

class Property : public testing::Test {
protected:
    void SetUp() override
    {
        RecordProperty("seed", std::to_string(seed));
        std::printf("BULKHEAD_SEED=%llu\n", static_cast<unsigned long long>(seed));
    }

    const std::uint64_t seed = harness::seed_from_environment();
    harness::RandomPolicy random{seed};
};

TEST_F(Property, CompiledPlanesAnswerAsTheEvaluatorDoes)
{
    std::map<bh_reason, int> reasons;
    for (int world = 0; world < worlds; ++world) {
        const auto scenario = random.scenario();
        for (int h = 0; h < hosts_a_world; ++h) {
            const auto own = random.host(scenario);
            const auto host = compiled(scenario.policy, scenario.inventory, own);
            for (int i = 0; i < attempts_a_host; ++i) {
                const auto attempt = random.attempt(scenario, own);
                for (const auto plane : {Plane::active, Plane::shadow}) {
                    const auto meant = evaluate(scenario.policy, scenario.inventory, own, plane, attempt);
                    ++reasons[meant.reason];
                    ASSERT_EQ(host.answer(plane, attempt), meant)
                        << "on " << own.name << ", plane " << static_cast<int>(plane) << ": "
                        << harness::to_text(attempt) << "\n"
                        << harness::to_text(scenario);
                }
            }
        }
    }
    // The worlds are not dull: each kind of answer is common.
    for (const auto reason : {BH_REASON_NO_POLICY, BH_REASON_RULE, BH_REASON_DEFAULT})
        EXPECT_GT(reasons[reason], worlds * 5) << reason;
    EXPECT_GT(reasons[BH_REASON_LOCAL], worlds);
}

TEST_F(Property, OrderOfDocumentsRulesAndWorkloadsMeansNothing)
{
    for (int world = 0; world < 300; ++world) {
        const auto scenario = random.scenario();
        auto shuffled = scenario;
        for (auto& segment : shuffled.policy.segments)
            std::shuffle(segment.rules.begin(), segment.rules.end(), std::mt19937_64(random.below(1U << 30)));
        std::shuffle(shuffled.inventory.workloads.begin(), shuffled.inventory.workloads.end(),
                     std::mt19937_64(random.below(1U << 30)));
        const auto own = random.host(scenario);
        const auto one = compiled(scenario.policy, scenario.inventory, own);
        const auto two = compiled(shuffled.policy, shuffled.inventory, own);
        ASSERT_EQ(one.policy, two.policy) << harness::to_text(scenario);
        for (int i = 0; i < attempts_a_host; ++i) {
            const auto attempt = random.attempt(scenario, own);
            ASSERT_EQ(one.answer(Plane::active, attempt), two.answer(Plane::active, attempt))
                << harness::to_text(attempt) << "\n"
                << harness::to_text(scenario);
        }
    }
}

TEST_F(Property, WhatTheShadowPlaneAllowsTheActivePlaneAllows)
{
    for (int world = 0; world < worlds; ++world) {
        const auto scenario = random.scenario();
        const auto own = random.host(scenario);
        for (int i = 0; i < attempts_a_host; ++i) {
            const auto attempt = random.attempt(scenario, own);
            const auto shadow = evaluate(scenario.policy, scenario.inventory, own, Plane::shadow, attempt);
            if (shadow.verdict == BH_ALLOWED) {
                ASSERT_EQ(evaluate(scenario.policy, scenario.inventory, own, Plane::active, attempt).verdict,
                          BH_ALLOWED)
                    << harness::to_text(attempt) << "\n"
                    << harness::to_text(scenario);
            }
        }
    }
}

// Moving segments from test to enforce refuses nothing that the shadow plane had not reported.
TEST_F(Property, EnforcingWhatWasTestedRefusesOnlyWhatWasReported)
{
    for (int world = 0; world < worlds; ++world) {
        const auto scenario = random.scenario();
        auto enforced = scenario.policy;
        for (auto& segment : enforced.segments)
            if (segment.mode == Mode::test && random.chance(60))
                segment.mode = Mode::enforce;
        const auto own = random.host(scenario);
        for (int i = 0; i < attempts_a_host; ++i) {
            const auto attempt = random.attempt(scenario, own);
            const auto after = evaluate(enforced, scenario.inventory, own, Plane::active, attempt);
            if (after.verdict == BH_DENIED) {
                ASSERT_EQ(evaluate(scenario.policy, scenario.inventory, own, Plane::shadow, attempt).verdict, BH_DENIED)
                    << harness::to_text(attempt) << "\n"
                    << harness::to_text(scenario);
            }
        }
    }
}

} // namespace
} // namespace bulkhead::policy
