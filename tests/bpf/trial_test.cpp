// SPDX-License-Identifier: Apache-2.0
// Policies that are in force until a deadline, which the kernel keeps by itself.
#include "tests/bpf/fixture.h"

#include "common/core/clock.h"

#include <cerrno>
#include <thread>
#include <utility>

namespace bulkhead::test {
namespace {

using namespace std::chrono_literals;
using Phase = agent::TrialState::Phase;

class Trial : public BpfTest {
protected:
    [[nodiscard]] int tcp_error_to(std::uint16_t port) const
    {
        int error = -1;
        guarded([&] { error = tcp_error({"10.77.0.2", port}); });
        return error;
    }
    std::uint32_t try_out(const TestPolicy& policy, std::chrono::nanoseconds time, agent::FacetTable facets = {})
    {
        const auto active = policy.plane(policy::Plane::active);
        const auto shadow = policy.plane(policy::Plane::shadow);
        over_ = system_clock().monotonic() + time;
        const auto generation = datapath_->realise({&active, &shadow, std::move(facets), 0, over_});
        EXPECT_TRUE(generation) << generation.error().message;
        return generation.value_or(0);
    }
    // What the kernel says, without asking the datapath object that switched.
    bh_judge_request judged(std::uint16_t port)
    {
        bh_judge_request request[1]{};
        request[0].remote = abi_address("10.77.0.2");
        request[0].port = port;
        request[0].protocol = 6;
        EXPECT_TRUE(datapath_->judge(request));
        return request[0];
    }
    void wait_until_over() const { std::this_thread::sleep_for(over_ - system_clock().monotonic() + 20ms); }

    static constexpr auto window = 2s; // enough to act in it on a busy machine
    static constexpr auto long_enough = 60s;
    MonotonicTime over_{};
    const TestPolicy closed = TestPolicy().default_action(outbound, refuse);
    const TestPolicy open_80 = TestPolicy().default_action(outbound, refuse).allow(outbound, "any", "tcp/80");
    // Process class 1 is what runs in this cgroup.
    static agent::FacetTable class_1_is(const Cgroup& cgroup)
    {
        return {{{0, 0, BH_FACET_USER | BH_FACET_DEFAULT}, {{3, 0, 0, 0}}},
                {{0, 0, BH_FACET_EXECUTABLE | BH_FACET_DEFAULT}, {{3, 0, 0, 0}}},
                {{0, 0, BH_FACET_CGROUP | BH_FACET_DEFAULT}, {{1, 0, 0, 0}}},
                {{cgroup.id(), 0, BH_FACET_CGROUP}, {{3, 0, 0, 0}}}};
    }
    static TestPolicy class_1_may_go_to(std::string_view service)
    {
        TestPolicy policy;
        policy.process_classes(1).default_action(outbound, refuse);
        return policy.rule(policy::HostAction::allow, outbound, "any", service, 1);
    }
    [[nodiscard]] int tcp_error_from(const Cgroup& cgroup, std::uint16_t port) const
    {
        int error = -1;
        run_in(world_->wire.guarded, cgroup, [&] { error = tcp_error({"10.77.0.2", port}); });
        return error;
    }
    const TestPolicy open_81 = TestPolicy().default_action(outbound, refuse).allow(outbound, "any", "tcp/81");
};

TEST_F(Trial, TheKernelGoesBackByItselfWithNoAgentAlive)
{
    realise(open_80);
    const auto confirmed = datapath_->control().generation;
    const auto trial = try_out(open_81, window);
    EXPECT_EQ(tcp_error_to(80), EPERM);
    EXPECT_EQ(tcp_error_to(81), ECONNREFUSED);
    datapath_.reset();
    wait_until_over();
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_to(81), EPERM);

    auto again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    EXPECT_EQ(datapath_->trial().phase, Phase::lapsed);
    EXPECT_EQ(datapath_->trial().generation, trial);
    EXPECT_EQ(datapath_->trial().fallback_generation, confirmed);
    EXPECT_EQ(datapath_->control().generation, confirmed) << "what is in force, not what is written";
    EXPECT_EQ(judged(81).generation, confirmed);
    EXPECT_FALSE(datapath_->confirm()) << "too late";
    EXPECT_EQ(tcp_error_to(81), EPERM);
    ASSERT_TRUE(datapath_->fall_back());
    EXPECT_EQ(datapath_->trial().phase, Phase::none);
    EXPECT_EQ(datapath_->control().generation, confirmed);
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_to(81), EPERM);
}

TEST_F(Trial, ConfirmationMakesItLast)
{
    realise(open_80);
    const auto trial = try_out(open_81, window);
    EXPECT_EQ(datapath_->trial().phase, Phase::running);
    ASSERT_TRUE(datapath_->confirm());
    EXPECT_EQ(datapath_->trial().phase, Phase::none);
    wait_until_over();
    EXPECT_EQ(tcp_error_to(81), ECONNREFUSED);
    EXPECT_EQ(tcp_error_to(80), EPERM);
    EXPECT_EQ(datapath_->control().generation, trial);
    EXPECT_FALSE(datapath_->confirm()) << "nothing is left to confirm";
    EXPECT_FALSE(datapath_->fall_back());
}

TEST_F(Trial, AnotherProcessCanConfirmIt)
{
    realise(open_80);
    try_out(open_81, long_enough);
    auto again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    EXPECT_EQ(datapath_->trial().phase, Phase::running);
    ASSERT_TRUE(datapath_->confirm());
    EXPECT_EQ(datapath_->trial().phase, Phase::none);
    EXPECT_EQ(tcp_error_to(81), ECONNREFUSED);
    realise(closed);
    EXPECT_EQ(tcp_error_to(81), EPERM);
}

TEST_F(Trial, GoingBackDoesNotWaitForTheDeadline)
{
    realise(open_80);
    const auto confirmed = datapath_->control().generation;
    const auto trial = try_out(open_81, long_enough);
    ASSERT_TRUE(datapath_->fall_back());
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_to(81), EPERM);
    EXPECT_EQ(datapath_->control().generation, confirmed);
    realise(closed);
    EXPECT_GT(datapath_->control().generation, trial) << "no number twice: records and conversations carry it";
}

TEST_F(Trial, ATrialWithinATrialFallsBackToWhatWasConfirmed)
{
    realise(open_80);
    try_out(closed, long_enough);
    try_out(open_81, long_enough);
    try_out(open_81, window);
    EXPECT_EQ(tcp_error_to(81), ECONNREFUSED);
    wait_until_over();
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_to(81), EPERM);
    // And the next one after a lapse that nobody settled falls back to the same.
    try_out(open_81, window);
    EXPECT_EQ(tcp_error_to(81), ECONNREFUSED);
    wait_until_over();
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(datapath_->counters().at("malformed"), 0U);
}

TEST_F(Trial, FallsBackToNothingInForce)
{
    try_out(closed, window);
    EXPECT_EQ(tcp_error_to(80), EPERM);
    wait_until_over();
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(datapath_->control().active_slot, BH_SLOT_NONE);
    const auto shadow = closed.plane(policy::Plane::shadow);
    EXPECT_FALSE(datapath_->realise({nullptr, &shadow, {}, 0, system_clock().monotonic() + long_enough}));
}

TEST_F(Trial, APolicyThatIsNoTrialEndsIt)
{
    realise(open_80);
    try_out(open_81, window);
    realise(closed);
    EXPECT_EQ(datapath_->trial().phase, Phase::none);
    wait_until_over();
    EXPECT_EQ(tcp_error_to(80), EPERM);
    EXPECT_EQ(tcp_error_to(81), EPERM);
    try_out(open_81, window);
    ASSERT_TRUE(datapath_->clear());
    wait_until_over();
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_to(81), ECONNREFUSED);
}

TEST_F(Trial, AFailedTrialChangesNothing)
{
    realise(open_80);
    const auto broken = [&] {
        auto plane = open_81.plane(policy::Plane::active);
        plane.port_classes.resize(17);
        const auto until = system_clock().monotonic() + long_enough;
        EXPECT_FALSE(datapath_->realise({&plane, &plane, {}, 0, until}));
    };
    broken();
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    try_out(open_81, window);
    broken();
    EXPECT_EQ(tcp_error_to(81), ECONNREFUSED);
    wait_until_over();
    EXPECT_EQ(tcp_error_to(80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_to(81), EPERM);
}

// One decision is made by one policy, whichever side of the deadline it falls on.
TEST_F(Trial, NoDecisionIsAMixtureAtTheDeadline)
{
    TestPolicy before, during;
    before.default_action(outbound, refuse)
        .allow(outbound, "10.77.0.0/24", "udp/1000-1001")
        .deny(outbound, "any", "udp/1000");
    during.default_action(outbound, permit).deny(outbound, "10.77.0.2", "udp/1001");
    realise(before);
    UniqueFd socket;
    guarded([&] { socket = make_socket(AF_INET, SOCK_DGRAM); });
    const Address first("10.77.0.2", 1000), second("10.77.0.2", 1001);
    for (int round = 0; round < 5; ++round) {
        try_out(during, 30ms);
        const auto stop = system_clock().monotonic() + 60ms;
        std::optional<bool> last;
        int changes = 0, tries = 0;
        for (; system_clock().monotonic() < stop; ++tries) {
            const bool is_trial = send_to_error(socket, first) == 0;
            changes += last && *last != is_trial;
            last = is_trial;
        }
        EXPECT_EQ(last, false);
        EXPECT_LE(changes, 1) << "over once, over for good; tries: " << tries;
        EXPECT_EQ(send_to_error(socket, second), 0);
        ASSERT_TRUE(datapath_->fall_back());
    }
    EXPECT_EQ(datapath_->counters().at("malformed"), 0U);
}

// Class 1 of the one policy is another process than class 1 of the other.
TEST_F(Trial, ItsProcessesAreNotThoseOfWhatItFallsBackTo)
{
    const Cgroup unit(world_->enforced.path() + "/unit"), other(world_->enforced.path() + "/other");
    realise(class_1_may_go_to("tcp/80"), class_1_is(unit));
    const auto confirmed = datapath_->control().generation;
    const auto trial = try_out(class_1_may_go_to("tcp/81"), window, class_1_is(other));
    EXPECT_EQ(tcp_error_from(other, 81), ECONNREFUSED);
    EXPECT_EQ(tcp_error_from(unit, 80), EPERM);
    wait_until_over();
    const auto expect_as_confirmed = [&] {
        EXPECT_EQ(tcp_error_from(unit, 80), ECONNREFUSED);
        EXPECT_EQ(tcp_error_from(other, 80), EPERM);
    };
    // An agent that began to look for the trial's processes before its end.
    const auto late = datapath_->update_facets(trial, class_1_is(other));
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().kind, ErrorKind::refused);
    expect_as_confirmed();
    EXPECT_TRUE(datapath_->update_facets(confirmed, class_1_is(unit))) << "also while nobody has settled it";
    expect_as_confirmed();
    ASSERT_TRUE(datapath_->fall_back());
    EXPECT_FALSE(datapath_->update_facets(trial, class_1_is(other)));
    expect_as_confirmed();
    ASSERT_TRUE(datapath_->update_facets(confirmed, class_1_is(other)));
    EXPECT_EQ(tcp_error_from(unit, 80), EPERM);
    EXPECT_EQ(tcp_error_from(other, 80), ECONNREFUSED);
}

TEST_F(Trial, ProcessesThatDoNotFitLeaveEitherPolicyItsOwn)
{
    const Cgroup unit(world_->enforced.path() + "/unit"), other(world_->enforced.path() + "/other");
    realise(class_1_may_go_to("tcp/80"), class_1_is(unit));
    const auto confirmed = datapath_->control().generation;
    const auto trial = try_out(class_1_may_go_to("tcp/81"), long_enough, class_1_is(other));
    agent::FacetTable too_many;
    for (std::uint64_t i = 0; i <= 65536; ++i)
        too_many.push_back({{i, 0, BH_FACET_USER}, {{3, 0, 0, 0}}});
    EXPECT_FALSE(datapath_->update_facets(confirmed, too_many));
    EXPECT_FALSE(datapath_->update_facets(trial, too_many));
    EXPECT_EQ(tcp_error_from(other, 81), ECONNREFUSED);
    EXPECT_EQ(tcp_error_from(unit, 81), EPERM);
    EXPECT_TRUE(datapath_->look_for_tampering().empty());
    ASSERT_TRUE(datapath_->fall_back());
    EXPECT_EQ(tcp_error_from(unit, 80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_from(other, 80), EPERM);
    EXPECT_TRUE(datapath_->look_for_tampering().empty());
}

// One that takes over knows no more of the tables than which planes they belong to.
TEST_F(Trial, AnotherAgentTellsEitherPolicyItsProcesses)
{
    const Cgroup unit(world_->enforced.path() + "/unit"), other(world_->enforced.path() + "/other");
    realise(class_1_may_go_to("tcp/80"), class_1_is(other));
    const auto confirmed = datapath_->control().generation;
    const auto trial = try_out(class_1_may_go_to("tcp/81"), long_enough, class_1_is(unit));
    auto again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    ASSERT_TRUE(datapath_->update_facets(confirmed, class_1_is(unit)));
    ASSERT_TRUE(datapath_->update_facets(trial, class_1_is(other)));
    EXPECT_EQ(tcp_error_from(other, 81), ECONNREFUSED);
    EXPECT_EQ(tcp_error_from(unit, 81), EPERM);
    ASSERT_TRUE(datapath_->fall_back());
    EXPECT_EQ(tcp_error_from(unit, 80), ECONNREFUSED);
    EXPECT_EQ(tcp_error_from(other, 80), EPERM);
    EXPECT_TRUE(datapath_->update_facets(confirmed, class_1_is(unit)));
    EXPECT_FALSE(datapath_->update_facets(trial, class_1_is(other)));
}

TEST_F(Trial, QuarantineIsTheReasonOfWhatItsPlanesRefuse)
{
    TestPolicy policy;
    policy.default_action(outbound, refuse).rule(policy::HostAction::failsafe, outbound, "any", "tcp/80");
    const auto active = policy.plane(policy::Plane::active);
    const auto shadow = policy.plane(policy::Plane::shadow);
    ASSERT_TRUE(datapath_->realise({&active, &shadow, {}, BH_CONTROL_QUARANTINE, std::nullopt}));
    EXPECT_EQ(datapath_->control().flags, BH_CONTROL_QUARANTINE);
    EXPECT_EQ(judged(80).reason, BH_REASON_FAILSAFE);
    EXPECT_EQ(judged(81).verdict, BH_DENIED);
    EXPECT_EQ(judged(81).reason, BH_REASON_QUARANTINE);
    EXPECT_EQ(judged(81).shadow_reason, BH_REASON_QUARANTINE);

    // A trial takes its own flags with it when it ends.
    try_out(open_81, window);
    EXPECT_EQ(judged(80).reason, BH_REASON_DEFAULT);
    wait_until_over();
    EXPECT_EQ(judged(81).reason, BH_REASON_QUARANTINE);
    EXPECT_EQ(datapath_->control().flags, BH_CONTROL_QUARANTINE);
}

} // namespace
} // namespace bulkhead::test
