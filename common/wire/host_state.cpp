// SPDX-License-Identifier: Apache-2.0
#include "common/wire/wire.h"

#include <algorithm>
#include <unordered_set>
#include <vector>

namespace bulkhead::wire
{
namespace
{

// What an update's lists say, checked before anything is applied.
struct Changes {
    std::unordered_map<policy::IdentityId, policy::Identity> upsert_identities;
    std::unordered_set<policy::IdentityId> remove_identities;
    policy::AddressBook upsert_addresses;
    std::unordered_set<IpAddress> remove_addresses;
};

Status read_identities(const v1::PolicyUpdate& update, Changes& changes)
{
    for (const auto& message : update.upsert_identities()) {
        BULKHEAD_TRY(auto identity, from_wire(message));
        const auto id = identity.id;
        if (!changes.upsert_identities.emplace(id, std::move(identity)).second)
            return fail(ErrorKind::invalid, "policy update: identity {} twice", id);
    }
    for (const auto id : update.remove_identities()) {
        if (changes.upsert_identities.contains(id))
            return fail(ErrorKind::invalid, "policy update: identity {} both set and removed", id);
        if (!changes.remove_identities.insert(id).second)
            return fail(ErrorKind::invalid, "policy update: identity {} removed twice", id);
    }
    return {};
}

Status read_addresses(const v1::PolicyUpdate& update, Changes& changes)
{
    for (const auto& message : update.upsert_addresses()) {
        BULKHEAD_TRY(const auto address, address_from_wire(message.ip()));
        if (!changes.upsert_addresses.emplace(address, policy::AddressEntry{message.identity(), message.workload()})
                 .second)
            return fail(ErrorKind::invalid, "policy update: address {} twice", address.to_string());
    }
    for (const auto& bytes : update.remove_addresses()) {
        BULKHEAD_TRY(const auto address, address_from_wire(bytes));
        if (changes.upsert_addresses.contains(address))
            return fail(ErrorKind::invalid, "policy update: address {} both set and removed", address.to_string());
        if (!changes.remove_addresses.insert(address).second)
            return fail(ErrorKind::invalid, "policy update: address {} removed twice", address.to_string());
    }
    return {};
}

Status apply_changes(Changes changes, HostState& state)
{
    for (const auto id : changes.remove_identities) {
        if (state.identities.erase(id) == 0)
            return fail(ErrorKind::failed, "need snapshot: update removes identity {}, which is not held", id);
    }
    for (const auto& address : changes.remove_addresses) {
        if (state.addresses.erase(address) == 0)
            return fail(ErrorKind::failed, "need snapshot: update removes address {}, which is not held",
                        address.to_string());
    }
    for (auto& [id, identity] : changes.upsert_identities)
        state.identities.insert_or_assign(id, std::move(identity));
    for (auto& [address, entry] : changes.upsert_addresses)
        state.addresses.insert_or_assign(address, std::move(entry));
    return {};
}

Status check_base(const HostState& state, const v1::PolicyUpdate& update)
{
    if (update.snapshot()) {
        if (!update.has_host_policy())
            return fail(ErrorKind::invalid, "policy snapshot without a host policy");
        if (update.remove_identities_size() != 0 || update.remove_addresses_size() != 0)
            return fail(ErrorKind::invalid, "policy snapshot that removes something");
        return {};
    }
    if (update.base_generation() != state.generation)
        return fail(ErrorKind::failed, "need snapshot: update is for generation {}, held is {}",
                    update.base_generation(), state.generation);
    if (update.generation() <= update.base_generation())
        return fail(ErrorKind::invalid, "policy update from generation {} back to {}", update.base_generation(),
                    update.generation());
    return {};
}

void fill_header(const HostState& state, v1::PolicyUpdate& update)
{
    update.set_generation(state.generation);
    update.set_policy_version(state.policy_version);
    for (const auto& [key, value] : state.own_labels)
        (*update.mutable_own_labels())[key] = value;
}

void add_address(const IpAddress& address, const policy::AddressEntry& entry, v1::PolicyUpdate& update)
{
    auto& message = *update.add_upsert_addresses();
    message.set_ip(to_wire(address));
    message.set_identity(entry.identity);
    message.set_workload(entry.workload);
}

} // namespace

Result<HostState> apply_update(const HostState& state, const v1::PolicyUpdate& update)
{
    BULKHEAD_CHECK(check_base(state, update));
    Changes changes;
    BULKHEAD_CHECK(read_identities(update, changes));
    BULKHEAD_CHECK(read_addresses(update, changes));

    HostState next;
    if (!update.snapshot())
        next = state;
    if (update.has_host_policy()) {
        BULKHEAD_TRY(next.policy, from_wire(update.host_policy()));
    }
    BULKHEAD_CHECK(apply_changes(std::move(changes), next));
    next.generation = update.generation();
    next.policy_version = update.policy_version();
    next.own_labels = policy::Labels(update.own_labels().begin(), update.own_labels().end());
    return next;
}

v1::PolicyUpdate snapshot_of(const HostState& state)
{
    v1::PolicyUpdate update;
    update.set_snapshot(true);
    fill_header(state, update);
    *update.mutable_host_policy() = to_wire(state.policy);
    for (const auto& [id, identity] : state.identities)
        *update.add_upsert_identities() = to_wire(identity);
    for (const auto& [address, entry] : state.addresses)
        add_address(address, entry, update);
    return update;
}

v1::PolicyUpdate delta_between(const HostState& from, const HostState& to)
{
    v1::PolicyUpdate update;
    update.set_base_generation(from.generation);
    fill_header(to, update);
    if (from.policy != to.policy)
        *update.mutable_host_policy() = to_wire(to.policy);
    for (const auto& [id, identity] : to.identities) {
        const auto old = from.identities.find(id);
        if (old == from.identities.end() || old->second != identity)
            *update.add_upsert_identities() = to_wire(identity);
    }
    for (const auto& [id, identity] : from.identities) {
        if (!to.identities.contains(id))
            update.add_remove_identities(id);
    }
    for (const auto& [address, entry] : to.addresses) {
        const auto old = from.addresses.find(address);
        if (old == from.addresses.end() || old->second != entry)
            add_address(address, entry, update);
    }
    for (const auto& [address, entry] : from.addresses) {
        if (!to.addresses.contains(address))
            update.add_remove_addresses(to_wire(address));
    }
    return update;
}

} // namespace bulkhead::wire
