// SPDX-License-Identifier: Apache-2.0
// The kernel's verdict against the reference evaluator (straight from the documents) and against policy::judge() (from
// the same planes), on random policies and attempts.
#include "common/policy/compile.h"
#include "common/policy/evaluate.h"
#include "tests/bpf/fixture.h"
#include "tests/harness/random_policy.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

namespace bulkhead::test {
namespace {

constexpr int attempts_a_host = 600; // what costs time is to put a policy in force

// 60,000 attempts, each in both planes; BULKHEAD_PAIRS asks for more.
int hosts()
{
    const char* pairs = std::getenv("BULKHEAD_PAIRS");
    return std::max(100, pairs == nullptr ? 0 : std::atoi(pairs) / attempts_a_host + 1);
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

// By which address the kernel is asked: 127.0.0.1 and ::1 are what the host's own addresses stand for.
IpAddress remote_of(const policy::Attempt& attempt, bool own)
{
    static const auto one = IpAddress::parse("::1").value();
    if (own && attempt.peer == one)
        return IpAddress::parse("fd77::1").value();
    if (own && attempt.peer == IpAddress::from_v4(INADDR_LOOPBACK))
        return IpAddress::parse("10.77.0.1").value();
    return attempt.peer;
}

bh_judge_request request_of(const policy::Attempt& attempt, const IpAddress& remote, const bh_subject& subject)
{
    bh_judge_request request{};
    std::memcpy(request.remote.byte, remote.bytes.data(), sizeof(request.remote.byte));
    request.subject = subject;
    request.port = attempt.port.value_or(0);
    request.port_unknown = attempt.port ? 0 : 1;
    request.protocol = static_cast<__u8>(attempt.protocol);
    request.direction = static_cast<__u8>(attempt.direction);
    return request;
}

// One host of one random world, compiled.
struct Enforced {
    explicit Enforced(harness::RandomPolicy& random)
        : scenario(random.scenario()), own(random.host(scenario)),
          identities(policy::build_identities(scenario.policy, scenario.inventory, harness::counting_numbers())),
          host(policy::compile_host(scenario.policy, identities.identities, own.labels, own.name).value()),
          // Every other time as if nothing had expired yet, so that the kernel meets stages that have.
          lowered(random.chance(50) ? harness::RandomPolicy::now() : policy::beginning_of_time),
          planes{policy::lower(host, policy::Plane::active, identities.addresses, lowered).value(),
                 policy::lower(host, policy::Plane::shadow, identities.addresses, lowered).value()}
    {}

    agent::Realisation realisation() { return {&planes[0], &planes[1], population.rows(host.processes)}; }

    harness::Scenario scenario;
    policy::Workload own;
    policy::Identities identities;
    policy::HostPolicy host;
    WallTime lowered;
    policy::PlaneImage planes[2];
    Population population;
};

struct Tally {
    // Each way to reach this host itself was decided for each reason that it can have.
    bool every_loopback() const
    {
        for (const auto kind : {BH_LOOPBACK_ADDRESS, BH_LOOPBACK_OWN})
            for (const auto reason : {BH_REASON_RULE, BH_REASON_DEFAULT, BH_REASON_LOCAL})
                if (loopback.count({kind, reason}) == 0)
                    return false;
        return true;
    }

    std::map<int, int> reasons;
    std::map<std::pair<int, int>, int> loopback; // by enum bh_loopback and reason
    int denied = 0, by_process = 0;
    int staged = 0; // answers that would be others, had nothing expired
};

void compare(const Enforced& enforced, const policy::Attempt& attempt, const bh_judge_request& answered, Tally& tally)
{
    const std::pair<int, int> kernel[2] = {{answered.verdict, answered.reason},
                                           {answered.shadow_verdict, answered.shadow_reason}};
    for (const auto plane : {policy::Plane::active, policy::Plane::shadow}) {
        const auto index = static_cast<std::size_t>(plane);
        const auto& scenario = enforced.scenario;
        const auto expected = policy::evaluate(scenario.policy, scenario.inventory, enforced.own, plane, attempt);
        EXPECT_EQ(kernel[index], std::pair(int{expected.verdict}, int{expected.reason}))
            << "plane " << index << ", rule " << expected.rule << "\n"
            << harness::to_text(attempt) << "\n"
            << harness::to_text(scenario);
        policy::Approach approach{attempt.direction, attempt.protocol, attempt.peer, attempt.port, attempt.now};
        const auto by_plane = policy::judge(enforced.planes[index], enforced.host, approach, bits(answered.classes));
        EXPECT_EQ(kernel[index], std::pair(int{by_plane.verdict}, int{by_plane.reason})) << harness::to_text(attempt);
        approach.now = policy::beginning_of_time;
        tally.staged +=
            policy::judge(enforced.planes[index], enforced.host, approach, bits(answered.classes)).verdict !=
            by_plane.verdict;
        ++tally.reasons[kernel[index].second];
        ++tally.loopback[{answered.loopback, kernel[index].second}];
        tally.denied += kernel[index].first;
    }
    EXPECT_EQ(answered.peer_class, enforced.planes[0].peer_class(attempt.peer)) << harness::to_text(attempt);
}

class Verdict : public BpfTest {};

TEST_F(Verdict, KernelAnswersAsTheEvaluatorAndThePlanesDo)
{
    const std::uint64_t seed = harness::seed_from_environment();
    std::printf("BULKHEAD_SEED=%llu\n", static_cast<unsigned long long>(seed));
    harness::RandomPolicy random(seed);
    Tally tally;
    // Rules that expire and rules about loopback decide in few worlds: now and then in none of a hundred.
    const auto enough = [&](int done) {
        return done >= hosts() && ((tally.staged > 50 && tally.every_loopback()) || done >= 4 * hosts());
    };
    for (int h = 0; !enough(h) && !HasFailure(); ++h) {
        Enforced enforced(random);
        ASSERT_TRUE(datapath_->realise(enforced.realisation()));
        tally.by_process += enforced.planes[0].info.has_processes;

        std::vector<policy::Attempt> attempts;
        std::vector<bh_judge_request> requests;
        for (int i = 0; i < attempts_a_host; ++i) {
            attempts.push_back(random.attempt(enforced.scenario, enforced.own));
            const auto& attempt = attempts.back();
            requests.push_back(request_of(attempt, remote_of(attempt, random.chance(50)),
                                          enforced.population.subject(attempt.process)));
        }
        ASSERT_TRUE(datapath_->judge(requests));
        for (std::size_t i = 0; i < attempts.size() && !HasFailure(); ++i) {
            compare(enforced, attempts[i], requests[i], tally);
            EXPECT_EQ(requests[i].generation, datapath_->control().generation);
        }
    }
    // The random worlds reach what they are made for.
    for (const auto reason : {BH_REASON_RULE, BH_REASON_DEFAULT, BH_REASON_NO_POLICY, BH_REASON_LOCAL})
        EXPECT_GT(tally.reasons[reason], 300) << reason;
    EXPECT_TRUE(tally.every_loopback());
    EXPECT_GT(tally.denied, 1000);
    EXPECT_GT(tally.by_process, 10);
    EXPECT_GT(tally.staged, 50);
    EXPECT_EQ(tally.reasons[BH_REASON_MALFORMED], 0);
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

// Rule i lets user i pass until its instant; of all, the first `passed` have passed.
policy::HostPolicy policy_with_stages(int stages, int passed)
{
    policy::HostPolicy host;
    host.segments = {"s"};
    host.defaults[static_cast<int>(policy::Plane::active)][static_cast<int>(policy::Direction::outbound)] = {
        policy::Action::deny, "s"};
    for (int i = 0; i < stages; ++i) {
        policy::ProcessCondition who;
        who.user = fmt::format("u{}", i);
        host.processes.push_back(who);
        policy::HostRule rule;
        rule.id = fmt::format("s/{:02}", i);
        rule.planes = policy::plane_bit(policy::Plane::active);
        rule.peers.any = true;
        rule.services = {{policy::Protocol::tcp, {443, 443}}};
        rule.process_class = static_cast<std::uint16_t>(i + 1);
        rule.expires = system_clock().wall() + std::chrono::hours(i < passed ? i - passed : i - passed + 1);
        host.rules.push_back(std::move(rule));
    }
    return host;
}

constexpr __u32 first_uid = 100;

agent::FacetTable users(int count)
{
    bh_class_vector all{};
    std::fill(std::begin(all.word), std::end(all.word), ~0ULL);
    agent::FacetTable table{{{0, 0, BH_FACET_CGROUP | BH_FACET_DEFAULT}, all},
                            {{0, 0, BH_FACET_EXECUTABLE | BH_FACET_DEFAULT}, all}};
    for (int i = 0; i < count; ++i)
        table.push_back({{first_uid + static_cast<__u32>(i), 0, BH_FACET_USER}, {{1ULL | 1ULL << (i + 1), 0, 0, 0}}});
    return table;
}

TEST_F(Verdict, OfAllStagesTheFirstThatLastsSpeaks)
{
    for (const int stages : {1, 2, 31, BH_STAGES}) {
        for (int passed = 0; passed <= stages; ++passed) {
            const auto host = policy_with_stages(stages, passed);
            const auto image = policy::lower(host, policy::Plane::active, {}, policy::beginning_of_time).value();
            ASSERT_TRUE(datapath_->realise({&image, nullptr, users(stages)}));
            std::vector<bh_judge_request> requests(static_cast<std::size_t>(stages));
            for (int i = 0; i < stages; ++i) {
                auto& request = requests[static_cast<std::size_t>(i)];
                request.remote = abi_address("10.77.0.2");
                request.port = 443;
                request.protocol = 6;
                request.direction = BH_OUTBOUND;
                request.subject.pid = 4711;
                request.subject.uid = first_uid + static_cast<__u32>(i);
            }
            ASSERT_TRUE(datapath_->judge(requests));
            for (int i = 0; i < stages; ++i)
                EXPECT_EQ(requests[static_cast<std::size_t>(i)].verdict, i < passed ? BH_DENIED : BH_ALLOWED)
                    << "rule " << i << " of " << stages << ", of which " << passed << " have expired";
        }
    }
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
