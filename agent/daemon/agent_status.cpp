// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/agent.h"

#include "agent/local/policy_words.h"
#include "common/core/version.h"

namespace bulkhead::agent {

std::string Agent::source_name() const
{
    if (!config_.controller.empty())
        return "controller " + config_.controller;
    if (!config_.policy_dir.empty())
        return "folder " + config_.policy_dir;
    return "none";
}

std::string Agent::summary() const
{
    std::string text = "no policy in force";
    if (enforcer_->has_policy())
        text = fmt::format("policy version {} in force", enforcer_->state().policy_version);
    else if (enforcer_->plane_in_force())
        text = "a policy of an unknown version in force";
    if (enforcer_->trial_until())
        text += fmt::format(" on trial for {} s", (trial_left_ms() + 999) / 1000);
    if (enforcer_->quarantined())
        text = "in quarantine; without it " + text;
    text += ", from " + source_name();
    if (uplink_)
        text += uplink_->connected() ? ", connected" : ", not connected";
    if (!enforcer_->refusal().empty())
        text += ", the newest policy was refused";
    for (const auto& trouble : {state_trouble_, uplink_error_, interface_error_, namespace_error_})
        if (!trouble.empty())
            text += "; " + trouble;
    for (const auto& damage : enforcer_->damage())
        text += "; " + damage;
    return text;
}

v1::LocalStatus Agent::local_status()
{
    v1::LocalStatus status;
    const auto control = datapath_->control();
    status.set_hostname(hostname_);
    status.set_agent_id(agent_id_);
    status.set_version(BULKHEAD_VERSION);
    status.set_cgroup(cgroup_);
    status.set_state_dir(config_.state_dir);
    status.set_source(source_name());
    status.set_connected(uplink_ && uplink_->connected());
    status.set_policy_version(enforcer_->state().policy_version);
    status.set_generation(control.generation);
    status.set_enforcing(enforcer_->plane_in_force());
    status.set_refusal(enforcer_->refusal());
    if (const auto pending = datapath_->pending_takeover())
        status.add_warnings("programs of another version enforce, until the next policy: " + *pending);
    for (const auto& trouble : {state_trouble_, uplink_error_, interface_error_, namespace_error_})
        if (!trouble.empty())
            status.add_warnings(trouble);
    for (const auto& damage : enforcer_->damage())
        status.add_warnings(damage);
    if (enforcer_->unsaved())
        status.add_warnings("the policy in force cannot be saved: a reboot would bring back an older one");
    for (const auto& warning : capacity_.standing())
        status.add_warnings(warning);
    for (const auto& condition : enforcer_->unmatched())
        status.add_unmatched(condition);
    status.set_realise_us(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(enforcer_->realise_time()).count()));
    status.set_enforced_since_us(
        std::chrono::duration_cast<std::chrono::microseconds>(enforcer_->enforced_since().time_since_epoch()).count());
    status.mutable_tampering()->Add(tampering_.begin(), tampering_.end());
    for (const auto& segment : enforcer_->state().policy.segments)
        status.add_segments(segment);
    for (const auto& rule : enforcer_->failsafes()) {
        auto& failsafe = *status.add_failsafes();
        failsafe.set_name(rule.id.substr(rule.id.find('/') + 1));
        failsafe.set_direction(rule.direction == policy::Direction::inbound ? "inbound" : "outbound");
        failsafe.set_peers(describe_peers(rule.peers, *enforcer_->view()));
        failsafe.set_services(describe_services(rule.services));
    }
    const auto add_counter = [&](const std::string& name, std::uint64_t value) {
        auto& counter = *status.add_counters();
        counter.set_name(name);
        counter.set_value(value);
    };
    for (const auto& [name, value] : datapath_->counters())
        add_counter(name, value);
    for (const auto& [name, value] : events_->with([](FlowAssembler& assembler) { return assembler.counters(); }))
        add_counter(name, value);
    add_counter("open_flows", events_->with([](FlowAssembler& assembler) { return assembler.open_flows(); }));
    add_counter("tampering", tampered_);
    for (const auto& use : datapath_->map_use()) {
        auto& map = *status.add_maps();
        map.set_name(use.name);
        map.set_entries(use.entries);
        map.set_capacity(use.capacity);
    }
    status.set_spool_bytes(spool_->bytes());
    status.set_spool_first_seq(spool_->first_seq());
    status.set_spool_next_seq(spool_->next_seq());
    status.set_acked_seq(spool_->acknowledged());
    status.set_records_lost(spool_->lost());
    const auto& labels = enforcer_->has_policy() ? enforcer_->state().own_labels : config_.labels;
    status.mutable_labels()->insert(labels.begin(), labels.end());
    *status.mutable_standing() = standing();
    *status.mutable_guard() = guard_status();
    return status;
}

v1::GuardStatus Agent::guard_status() const
{
    v1::GuardStatus guard;
    guard.set_mode(config_.guard == AttachMode::never    ? "never"
                   : config_.guard == AttachMode::always ? "always"
                                                         : "auto");
    for (auto& name : datapath_->guarded_interfaces())
        guard.add_interfaces(std::move(name));
    for (auto& name : datapath_->early_drop_interfaces())
        guard.add_early_drop(std::move(name));
    if (guard.interfaces_size() != 0)
        guard.set_attached(datapath_->guard_kind());
    guard.set_cgroup_ingress(datapath_->judges_at_sockets());
    guard.set_namespaces(static_cast<std::uint32_t>(datapath_->followed_namespaces().size()));
    return guard;
}

KernelContents Agent::kernel_contents()
{
    KernelContents contents{
        datapath_->control(),          datapath_->trial(), enforcer_->view(), datapath_->listeners(), {},
        datapath_->denials_in_table(), clock_.monotonic()};
    if (auto flows = datapath_->udp_flows())
        contents.udp_flows = std::move(*flows);
    return contents;
}

} // namespace bulkhead::agent
