// SPDX-License-Identifier: Apache-2.0
// The kernel's verdict against the reference evaluator (straight from the documents) and against policy::judge() (from
// the same planes), on random policies and attempts.
#include "common/policy/compile.h"
#include "common/policy/evaluate.h"
#include "tests/bpf/fixture.h"
#include "tests/harness/random_policy.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

namespace bulkhead::test {
namespace {

constexpr int attempts_a_host = 60;

// 14,400 attempts, each in both planes; BULKHEAD_PAIRS asks for more.
int hosts()
{
    const char* pairs = std::getenv("BULKHEAD_PAIRS");
    return std::max(240, pairs == nullptr ? 0 : std::atoi(pairs) / attempts_a_host + 1);
}

// Stand-ins for what a kernel would know of a process: one number a distinct user, cgroup and executable.
class Population {
public:
    bh_subject subject(const policy::ProcessFacts& facts)
    {
        bh_subject subject{};
        subject.pid = 4711;
        subject.uid = static_cast<__u32>(number(facts.user));
        subject.cgroup_id = (1ULL << 50) + number(cgroup_text(facts)); // no real cgroup has such an id
        subject.exe_inode = number(facts.exe + "\n" + facts.sha256.value_or(""));
        subject.exe_device = 7;
        return subject;
    }

    // What the daemon's resolver would write: of each property of each process, the classes that it does not rule out.
    agent::FacetTable rows(const std::vector<policy::ProcessCondition>& conditions)
    {
        agent::FacetTable table;
        for (const auto& facts : harness::RandomPolicy::processes()) {
            const auto who = subject(facts);
            table.push_back({{who.uid, 0, BH_FACET_USER}, classes(conditions, facts, only_user)});
            table.push_back({{who.cgroup_id, 0, BH_FACET_CGROUP}, classes(conditions, facts, only_cgroup)});
            table.push_back(
                {{who.exe_inode, who.exe_device, BH_FACET_EXECUTABLE}, classes(conditions, facts, only_executable)});
        }
        return table;
    }

private:
    using Part = policy::ProcessCondition (*)(const policy::ProcessCondition&);
    static policy::ProcessCondition only_user(const policy::ProcessCondition& whole)
    {
        policy::ProcessCondition part;
        part.user = whole.user;
        return part;
    }
    static policy::ProcessCondition only_cgroup(const policy::ProcessCondition& whole)
    {
        policy::ProcessCondition part;
        part.unit = whole.unit;
        part.container = whole.container;
        return part;
    }
    static policy::ProcessCondition only_executable(const policy::ProcessCondition& whole)
    {
        policy::ProcessCondition part;
        part.exe = whole.exe;
        part.sha256 = whole.sha256;
        return part;
    }

    static bh_class_vector classes(const std::vector<policy::ProcessCondition>& conditions,
                                   const policy::ProcessFacts& facts, Part part)
    {
        bh_class_vector vector{{1, 0, 0, 0}};
        for (std::size_t i = 0; i < conditions.size(); ++i)
            if (policy::holds(part(conditions[i]), facts))
                vector.word[(i + 1) / 64] |= 1ULL << ((i + 1) % 64);
        return vector;
    }

    static std::string cgroup_text(const policy::ProcessFacts& facts)
    {
        std::string text = facts.container;
        for (const auto& unit : facts.units)
            text += "\n" + unit;
        return text;
    }

    std::size_t number(const std::string& text) { return numbers_.emplace(text, numbers_.size() + 1).first->second; }
    std::map<std::string, std::size_t> numbers_;
};

policy::ClassVector bits(const bh_class_vector& classes)
{
    policy::ClassVector vector;
    for (std::size_t i = 0; i < BH_CLASSES; ++i)
        vector[i] = (classes.word[i / 64] >> (i % 64) & 1) != 0;
    return vector;
}

bh_judge_request request_of(const policy::Attempt& attempt, const bh_subject& subject)
{
    bh_judge_request request{};
    std::memcpy(request.remote.byte, attempt.peer.bytes.data(), sizeof(request.remote.byte));
    request.subject = subject;
    request.port = attempt.port;
    request.protocol = static_cast<__u8>(attempt.protocol);
    request.direction = static_cast<__u8>(attempt.direction);
    return request;
}

class Verdict : public BpfTest {};

TEST_F(Verdict, KernelAnswersAsTheEvaluatorAndThePlanesDo)
{
    const std::uint64_t seed = harness::seed_from_environment();
    std::printf("BULKHEAD_SEED=%llu\n", static_cast<unsigned long long>(seed));
    harness::RandomPolicy random(seed);
    std::map<int, int> reasons;
    int denied = 0, by_process = 0;

    for (int h = 0, last = hosts(); h < last && !HasFailure(); ++h) {
        const auto scenario = random.scenario();
        const auto own = random.host(scenario);
        const auto identities =
            policy::build_identities(scenario.policy, scenario.inventory, harness::counting_numbers());
        const auto host = policy::compile_host(scenario.policy, identities.identities, own.labels, own.name).value();
        const policy::PlaneImage planes[2] = {policy::lower(host, policy::Plane::active, identities.addresses).value(),
                                              policy::lower(host, policy::Plane::shadow, identities.addresses).value()};
        Population population;
        ASSERT_TRUE(datapath_->realise({&planes[0], &planes[1], population.rows(host.processes)}));
        by_process += planes[0].info.has_processes;

        for (int i = 0; i < attempts_a_host; ++i) {
            const auto attempt = random.attempt(scenario, own);
            auto request = request_of(attempt, population.subject(attempt.process));
            ASSERT_TRUE(datapath_->judge({&request, 1}));
            const std::pair<int, int> kernel[2] = {{request.verdict, request.reason},
                                                   {request.shadow_verdict, request.shadow_reason}};
            for (const auto plane : {policy::Plane::active, policy::Plane::shadow}) {
                const auto index = static_cast<std::size_t>(plane);
                const auto expected = policy::evaluate(scenario.policy, scenario.inventory, own, plane, attempt);
                EXPECT_EQ(kernel[index], std::pair(int{expected.verdict}, int{expected.reason}))
                    << "plane " << index << ", rule " << expected.rule << "\n"
                    << harness::to_text(attempt) << "\n"
                    << harness::to_text(scenario);
                const auto from_planes = policy::judge(planes[index], host, attempt.direction, attempt.protocol,
                                                       attempt.peer, attempt.port, bits(request.classes));
                EXPECT_EQ(kernel[index], std::pair(int{from_planes.verdict}, int{from_planes.reason}))
                    << harness::to_text(attempt);
                ++reasons[kernel[index].second];
                denied += kernel[index].first;
            }
            EXPECT_EQ(request.peer_class, planes[0].peer_class(attempt.peer));
            EXPECT_EQ(request.generation, datapath_->control().generation);
        }
    }
    // The random worlds reach what they are made for.
    EXPECT_GT(reasons[BH_REASON_RULE], 1000);
    EXPECT_GT(reasons[BH_REASON_DEFAULT], 1000);
    EXPECT_GT(denied, 1000);
    EXPECT_GT(by_process, 10);
    EXPECT_EQ(reasons[BH_REASON_MALFORMED], 0);
}

TEST_F(Verdict, PlanesThatNobodyPutInForceDecideNothing)
{
    bh_judge_request request{};
    request.remote = abi_address("10.77.0.2");
    request.port = 80;
    request.protocol = 6;
    ASSERT_TRUE(datapath_->judge({&request, 1}));
    EXPECT_EQ(request.verdict, BH_ALLOWED);
    EXPECT_EQ(request.reason, BH_REASON_NO_POLICY);
    realise(TestPolicy().default_action(outbound, refuse));
    ASSERT_TRUE(datapath_->judge({&request, 1}));
    EXPECT_EQ(request.verdict, BH_DENIED);
    ASSERT_TRUE(datapath_->clear());
    ASSERT_TRUE(datapath_->judge({&request, 1}));
    EXPECT_EQ(request.verdict, BH_ALLOWED);
    EXPECT_EQ(request.reason, BH_REASON_NO_POLICY);
    EXPECT_EQ(datapath_->counters().at("malformed"), 0U);
}

TEST_F(Verdict, ManyQuestionsAreAnsweredEachInItsPlace)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .rule(policy::HostAction::allow, outbound, "10.77.0.2", "tcp/1000-1999"));
    for (const std::size_t count : {0, 1, BH_JUDGE_BATCH - 1, BH_JUDGE_BATCH, BH_JUDGE_BATCH + 1, 2001}) {
        std::vector<bh_judge_request> requests(count);
        for (std::size_t i = 0; i < count; ++i) {
            requests[i].remote = abi_address(i % 3 == 0 ? "10.77.0.3" : "10.77.0.2");
            requests[i].port = static_cast<__u16>(i);
            requests[i].protocol = 6;
        }
        ASSERT_TRUE(datapath_->judge(requests));
        for (std::size_t i = 0; i < count; ++i) {
            const bool allowed = i % 3 != 0 && i >= 1000 && i < 2000;
            ASSERT_EQ(requests[i].port, i);
            ASSERT_EQ(requests[i].verdict, allowed ? BH_ALLOWED : BH_DENIED) << i << " of " << count;
            ASSERT_EQ(requests[i].reason, allowed ? BH_REASON_RULE : BH_REASON_DEFAULT) << i << " of " << count;
        }
    }
}

} // namespace
} // namespace bulkhead::test
