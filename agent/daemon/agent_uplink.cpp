// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/agent.h"

#include "common/core/log.h"

namespace bulkhead::agent {

v1::Hello Agent::hello()
{
    return loop_->call([this] { return say_hello(); }).value_or(v1::Hello{});
}

v1::HostStatus Agent::status()
{
    return loop_
        ->call([this] {
            v1::HostStatus status;
            for (const auto& address : host_.addresses())
                status.add_addresses(wire::to_wire(address));
            status.set_records_spooled(spool_->next_seq() - 1 - spool_->acknowledged());
            status.set_records_lost(spool_->lost());
            return status;
        })
        .value_or(v1::HostStatus{});
}

std::optional<v1::PolicyResult> Agent::on_update(const v1::PolicyUpdate& update)
{
    return loop_->call([this, &update] { return realise_update(update); });
}

void Agent::on_identity(const std::string& agent_id, bool enrolled_now)
{
    loop_->post([this, agent_id, enrolled_now] {
        agent_id_ = agent_id;
        refresh_host();
        if (enrolled_now)
            records_->audit("agent.enrol", config_.controller, "enrolled as " + agent_id);
    });
}

void Agent::on_connected(bool connected)
{
    loop_->post([this, connected] {
        if (!connected)
            log_info("without the controller: the policy stays in force, records are kept on disk");
    });
}

void Agent::on_enrolment_refused(const Error& error)
{
    loop_->post([this, error] {
        log_error("the controller {} refuses to enrol this host: {}", config_.controller, error.message);
        fatal_ = error;
        loop_->stop();
    });
}

v1::Hello Agent::say_hello()
{
    v1::Hello hello;
    hello.set_hostname(hostname_);
    hello.mutable_labels()->insert(config_.labels.begin(), config_.labels.end());
    for (const auto& address : host_.addresses())
        hello.add_addresses(wire::to_wire(address));
    hello.set_agent_version(BULKHEAD_VERSION);
    hello.set_kernel_release(kernel_release());
    hello.set_boot_id(boot_id_);
    if (enforcer_->has_policy() && enforcer_->source() == PolicySource::controller) {
        hello.set_generation(enforcer_->state().generation);
        hello.set_policy_version(enforcer_->state().policy_version);
    }
    return hello;
}

v1::PolicyResult Agent::realise_update(const v1::PolicyUpdate& update)
{
    const auto begun = clock_.monotonic();
    v1::PolicyResult result;
    result.set_generation(update.generation());
    result.set_policy_version(update.policy_version());
    const bool ours = enforcer_->has_policy() && enforcer_->source() == PolicySource::controller;
    auto next = wire::apply_update(ours ? enforcer_->state() : wire::HostState{}, update);
    const auto version_before = ours ? enforcer_->state().policy_version : 0;
    if (!next && next.error().kind == ErrorKind::failed) { // a gap, no fault of the policy's
        log_info("asking the controller for everything: {}", next.error().message);
        result.set_need_snapshot(true);
        return result;
    }
    const auto enforced =
        next ? enforcer_->enforce(std::move(*next), PolicySource::controller) : Status(tl::unexpected(next.error()));
    if (!enforced) {
        refuse(enforced.error(), config_.controller, true);
        result.set_refusal(enforced.error().message);
        return result;
    }
    const auto took = clock_.monotonic() - begun;
    result.set_enforced(true);
    result.set_realise_us(
        static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(took).count()));
    refresh_host();
    if (update.policy_version() != version_before) {
        log_info("policy version {} of {} is in force ({:.1f} ms)", update.policy_version(), config_.controller,
                 std::chrono::duration<double, std::milli>(took).count());
        records_->audit("policy.enforce", config_.controller, fmt::format("version {}", update.policy_version()));
    }
    return result;
}

} // namespace bulkhead::agent
