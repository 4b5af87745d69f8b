// SPDX-License-Identifier: Apache-2.0
#include "controller/inventory/inventory.h"

#include "common/core/log.h"
#include "common/policy/compile.h"
#include "common/wire/wire.h"
#include "controller/inventory/label_rules.h"
#include "controller/store/audit.h"

#include <algorithm>
#include <tuple>

namespace bulkhead::controller {
namespace {

constexpr int max_addresses = 1024;
constexpr std::size_t max_text = 256;

// An address that many hosts have says nothing of who it is.
bool identifies_a_host(const IpAddress& address)
{
    const auto& b = address.bytes;
    if (address.is_loopback() || address.is_unspecified())
        return false;
    if (address.is_v4()) {
        const bool link_local = b[12] == 169 && b[13] == 254;
        return !link_local && b[12] != 0 && b[12] < 224; // 224/4 multicast, 240/4 reserved and broadcast
    }
    const bool link_local = b[0] == 0xfe && (b[1] & 0xc0) == 0x80;
    return !link_local && b[0] != 0xff;
}

template <typename List>
std::vector<IpAddress> read_addresses(const std::string& workload, const List& messages)
{
    std::vector<IpAddress> addresses;
    for (const auto& bytes : messages) {
        const auto address = wire::address_from_wire(bytes);
        if (static_cast<int>(addresses.size()) >= max_addresses) {
            log_warning("{}: more than {} addresses; the others are left out", workload, max_addresses);
            break;
        }
        if (address && identifies_a_host(*address))
            addresses.push_back(*address);
    }
    return addresses;
}

template <typename Map>
policy::Labels read_labels(const std::string& workload, const Map& proposed)
{
    policy::Labels labels;
    for (const auto& [key, value] : proposed) {
        if (labels.size() >= max_labels || !valid_label(key, value))
            log_warning("{}: label '{}={}' of the agent's configuration is left out", workload, key, value);
        else
            labels[key] = value;
    }
    return labels;
}

std::string_view source_name(LabelSource source)
{
    switch (source) {
    case LabelSource::agent: return "agent";
    case LabelSource::token: return "token";
    case LabelSource::admin: return "admin";
    }
    return "";
}

// Collects the labels of all sources and says which one won each key.
class LabelMerge {
public:
    explicit LabelMerge(Composition& composition) : composition_(composition) {}

    void add(policy::Workload& workload, std::string_view source, const policy::Labels& labels)
    {
        auto& sources = composition_.label_sources[workload.name];
        for (const auto& [key, value] : labels) {
            workload.labels[key] = value;
            sources[key] = source;
        }
    }

private:
    Composition& composition_;
};

} // namespace

Result<std::unique_ptr<Inventory>> Inventory::load(ControlStore& store, const Clock& clock)
{
    BULKHEAD_TRY(auto rows, store.load_inventory());
    std::unique_ptr<Inventory> inventory(new Inventory(store, clock));
    for (auto& row : rows.agents)
        inventory->agents_[row.id].row = row;
    inventory->labels_ = std::move(rows.labels);
    for (const auto& claim : rows.claims)
        inventory->claims_[claim.workload][claim.address] = claim.first_seen_us;
    BULKHEAD_TRY(auto quarantines, store.quarantines());
    for (auto& row : quarantines)
        inventory->quarantines_[row.workload] = std::move(row);
    return inventory;
}

std::optional<std::string> Inventory::workload_of(const std::string& agent_id) const
{
    const std::lock_guard lock(mutex_);
    const auto found = agents_.find(agent_id);
    if (found == agents_.end() || found->second.row.revoked)
        return std::nullopt;
    return found->second.row.workload;
}

std::vector<AgentView> Inventory::agents() const
{
    std::vector<AgentView> views;
    {
        const std::lock_guard lock(mutex_);
        for (const auto& [id, agent] : agents_)
            if (!agent.row.revoked)
                views.push_back({agent.row, agent.connected, agent.standing});
    }
    std::sort(views.begin(), views.end(),
              [](const AgentView& a, const AgentView& b) { return a.row.workload < b.row.workload; });
    return views;
}

void Inventory::enrolled(const AgentRow& agent, const policy::Labels& proposed, const EnrolmentOutcome& outcome)
{
    const std::lock_guard lock(mutex_);
    for (const auto& id : outcome.replaced)
        if (const auto old = agents_.find(id); old != agents_.end()) {
            old->second.row.revoked = true;
            old->second.connected = false;
        }
    agents_[agent.id].row = agent;
    labels_[agent.workload][LabelSource::agent] = proposed;
    labels_[agent.workload][LabelSource::token] = outcome.token_labels;
}

void Inventory::renewed(const std::string& agent_id, std::int64_t certificate_expires_us)
{
    const std::lock_guard lock(mutex_);
    if (auto* agent = find(agent_id))
        agent->row.certificate_expires_us = certificate_expires_us;
}

Inventory::Agent* Inventory::find(const std::string& agent_id)
{
    const auto found = agents_.find(agent_id);
    return found == agents_.end() || found->second.row.revoked ? nullptr : &found->second;
}

bool Inventory::claim(const std::string& workload, const std::vector<IpAddress>& addresses)
{
    auto& held = claims_[workload];
    std::map<IpAddress, std::int64_t> next;
    const auto now = unix_micros(clock_);
    for (const auto& address : addresses) {
        const auto before = held.find(address);
        next[address] = before == held.end() ? now : before->second;
    }
    if (next == held)
        return false;
    held = std::move(next);
    return true;
}

bool Inventory::connected(const std::string& agent_id, const v1::Hello& hello)
{
    const std::lock_guard lock(mutex_);
    auto* agent = find(agent_id);
    if (agent == nullptr)
        return false;
    auto& row = agent->row;
    if (!hello.hostname().empty() && hello.hostname() != row.workload)
        log_warning("{}: calls itself '{}' now; the name of its enrolment stays", row.workload, hello.hostname());
    agent->connected = true;
    agent->dirty = true;
    row.last_seen_us = unix_micros(clock_);
    row.agent_version = hello.agent_version().substr(0, max_text);
    row.kernel_release = hello.kernel_release().substr(0, max_text);
    row.policy_version = hello.policy_version();
    agent->standing = hello.standing();
    auto labels = read_labels(row.workload, hello.labels());
    auto& held = labels_[row.workload][LabelSource::agent];
    const bool relabelled = held != labels;
    held = std::move(labels);
    return claim(row.workload, read_addresses(row.workload, hello.addresses())) || relabelled;
}

bool Inventory::reported(const std::string& agent_id, const v1::HostStatus& status)
{
    const std::lock_guard lock(mutex_);
    auto* agent = find(agent_id);
    if (agent == nullptr)
        return false;
    agent->dirty = true;
    agent->row.last_seen_us = unix_micros(clock_);
    agent->row.records_spooled = status.records_spooled();
    agent->row.records_lost = status.records_lost();
    if (status.has_standing()) {
        agent->standing = status.standing();
        if (status.standing().generation() != 0)
            agent->row.policy_version = status.standing().policy_version();
    }
    return claim(agent->row.workload, read_addresses(agent->row.workload, status.addresses()));
}

void Inventory::answered(const std::string& agent_id, const v1::PolicyResult& result)
{
    const std::lock_guard lock(mutex_);
    auto* agent = find(agent_id);
    if (agent == nullptr)
        return;
    agent->dirty = true;
    agent->row.last_seen_us = unix_micros(clock_);
    if (result.need_snapshot()) // neither yes nor no
        return;
    agent->row.enforced = result.enforced();
    agent->row.refusal = result.enforced() ? "" : result.refusal().substr(0, 16 * max_text);
    if (!result.enforced())
        return;
    agent->row.policy_version = result.policy_version();
    agent->standing.set_policy_version(result.policy_version());
    agent->standing.set_trial_left_ms(result.trial_left_ms());
}

std::optional<QuarantineRow> Inventory::quarantine_of(const std::string& workload) const
{
    const std::lock_guard lock(mutex_);
    const auto found = quarantines_.find(workload);
    return found == quarantines_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<QuarantineRow> Inventory::quarantines() const
{
    const std::lock_guard lock(mutex_);
    std::vector<QuarantineRow> all;
    for (const auto& [workload, row] : quarantines_)
        all.push_back(row);
    return all;
}

Status Inventory::set_quarantine(const QuarantineRow& quarantine, v1::Record audit)
{
    const std::lock_guard lock(mutex_);
    BULKHEAD_CHECK(store_.set_quarantine(quarantine, audit));
    quarantines_[quarantine.workload] = quarantine;
    return {};
}

Status Inventory::lift_quarantine(const std::string& workload, v1::Record audit)
{
    const std::lock_guard lock(mutex_);
    BULKHEAD_CHECK(store_.lift_quarantine(workload, audit));
    quarantines_.erase(workload);
    return {};
}

void Inventory::disconnected(const std::string& agent_id)
{
    const std::lock_guard lock(mutex_);
    if (auto* agent = find(agent_id)) {
        agent->connected = false;
        agent->dirty = true;
        agent->row.last_seen_us = unix_micros(clock_);
    }
}

Status Inventory::label(const std::string& workload, const policy::Labels& set, const std::vector<std::string>& remove,
                        v1::Record audit)
{
    BULKHEAD_CHECK(check_labels(set));
    const std::lock_guard lock(mutex_);
    auto& sources = labels_[workload];
    auto labels = sources[LabelSource::admin];
    for (const auto& key : remove) {
        if (set.contains(key))
            return fail(ErrorKind::usage, "label '{}' is both set and removed", key);
        if (labels.erase(key) == 0)
            return tl::unexpected<Error>(Error{ErrorKind::usage,
                                               fmt::format("'{}' has no label '{}' set by an admin", workload, key),
                                               "a label of another source can be overridden, not removed"});
    }
    for (const auto& [key, value] : set)
        labels[key] = value;
    BULKHEAD_CHECK(check_labels(labels));
    BULKHEAD_CHECK(store_.set_admin_labels(workload, labels, audit));
    sources[LabelSource::admin] = std::move(labels);
    return {};
}

Composition Inventory::compose(const policy::PolicySet& policy) const
{
    Composition composition;
    LabelMerge merge(composition);
    const std::lock_guard lock(mutex_);
    std::map<std::string, policy::Workload> workloads;
    for (const auto& [id, agent] : agents_) {
        if (agent.row.revoked)
            continue;
        composition.agents[id] = agent.row.workload;
        workloads[agent.row.workload].name = agent.row.workload;
    }
    for (const auto& declared : policy.workloads)
        workloads[declared.name].name = declared.name;

    const auto add_labels = [&](LabelSource source) {
        for (auto& [name, workload] : workloads)
            if (const auto sources = labels_.find(name); sources != labels_.end())
                if (const auto labels = sources->second.find(source); labels != sources->second.end())
                    merge.add(workload, source_name(source), labels->second);
    };
    add_labels(LabelSource::agent);
    add_labels(LabelSource::token);
    for (const auto& declared : policy.workloads)
        merge.add(workloads[declared.name], "policy", declared.labels);
    add_labels(LabelSource::admin);

    std::map<IpAddress, std::string> owners;
    const auto give = [&](const IpAddress& address, const std::string& name) {
        const auto [owner, is_first] = owners.try_emplace(address, name);
        if (is_first)
            workloads[name].addresses.push_back(address);
        else if (owner->second != name)
            composition.contested.insert({address, owner->second, name});
    };
    for (const auto& declared : policy.workloads)
        for (const auto& address : declared.addresses)
            give(address, declared.name);
    std::vector<std::tuple<std::int64_t, std::string, IpAddress>> claims;
    for (const auto& [name, addresses] : claims_)
        if (workloads.contains(name))
            for (const auto& [address, first_seen] : addresses)
                claims.emplace_back(first_seen, name, address);
    std::sort(claims.begin(), claims.end());
    for (const auto& [first_seen, name, address] : claims)
        give(address, name);
    for (auto& [name, workload] : workloads)
        composition.workloads.workloads.push_back(std::move(workload));
    return composition;
}

Status Inventory::flush()
{
    std::vector<HostFacts> facts;
    const std::lock_guard lock(mutex_); // held while writing: a later enrolment must not be overwritten by older facts
    for (auto& [id, agent] : agents_) {
        if (!agent.dirty)
            continue;
        auto& fact = facts.emplace_back();
        fact.agent = agent.row;
        fact.labels = labels_[agent.row.workload][LabelSource::agent];
        for (const auto& [address, first_seen] : claims_[agent.row.workload])
            fact.claims.push_back({address, agent.row.workload, first_seen});
    }
    if (facts.empty())
        return {};
    BULKHEAD_CHECK(store_.save_hosts(facts));
    for (auto& [id, agent] : agents_)
        agent.dirty = false;
    return {};
}

} // namespace bulkhead::controller
