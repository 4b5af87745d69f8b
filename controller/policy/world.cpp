// SPDX-License-Identifier: Apache-2.0
#include "controller/policy/world.h"

#include "common/wire/state_digest.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

// An identity that names its workload is only that workload's; the others are everybody's with those labels.
std::map<std::string, policy::IdentityId> identify(const World& world)
{
    std::map<policy::Labels, policy::IdentityId> by_labels;
    std::map<std::string, policy::IdentityId> by_name;
    for (const auto& identity : world.identities) {
        if (identity.named_workload.empty())
            by_labels[identity.labels] = identity.id;
        else
            by_name[identity.named_workload] = identity.id;
    }
    std::map<std::string, policy::IdentityId> result;
    for (const auto& workload : world.composition.workloads.workloads) {
        if (const auto named = by_name.find(workload.name); named != by_name.end())
            result[workload.name] = named->second;
        else if (const auto shared = by_labels.find(workload.labels); shared != by_labels.end())
            result[workload.name] = shared->second;
    }
    return result;
}

class StateBuilder {
public:
    StateBuilder(World& world, const World* previous)
        : world_(world), compiler_(*world.policy, world.identities), previous_(previous)
    {
        for (const auto& identity : world.identities)
            identities_[identity.id] = identity;
        world.inventory_digest = wire::inventory_digest(identities_, world.addresses);
        // A host's rules follow from the documents and from who is who, not from addresses.
        reuse_ = previous != nullptr && previous->policy == world.policy && previous->identities == world.identities;
    }

    void add(policy::IdentityId id, const std::string& workload)
    {
        if (world_.states.contains(id) || world_.failures.contains(id))
            return;
        const auto& identity = identities_.at(id);
        auto compiled = compile(identity, workload);
        if (!compiled) {
            world_.failures[id] = compiled.error().message;
            return;
        }
        auto state = std::make_shared<wire::HostState>();
        state->generation = world_.generation;
        state->policy_version = world_.policy_version;
        state->policy = std::move(*compiled);
        state->identities = identities_;
        state->addresses = world_.addresses;
        state->own_labels = identity.labels;
        world_.states[id] = std::move(state);
    }

private:
    Result<policy::HostPolicy> compile(const policy::Identity& identity, const std::string& workload)
    {
        if (reuse_)
            if (const auto known = previous_->states.find(identity.id); known != previous_->states.end())
                return known->second->policy;
        return compiler_.compile(identity.labels, workload);
    }

    World& world_;
    policy::HostCompiler compiler_;
    const World* previous_;
    bool reuse_ = false;
    std::unordered_map<policy::IdentityId, policy::Identity> identities_;
};

} // namespace

const policy::Identity* World::identity(policy::IdentityId id) const
{
    const auto found = std::lower_bound(identities.begin(), identities.end(), id,
                                        [](const policy::Identity& a, policy::IdentityId b) { return a.id < b; });
    return found != identities.end() && found->id == id ? &*found : nullptr;
}

std::shared_ptr<const wire::HostState> World::state_for(const std::string& agent_id) const
{
    const auto workload = composition.agents.find(agent_id);
    if (workload == composition.agents.end())
        return nullptr;
    const auto id = identity_of.find(workload->second);
    const auto state = id == identity_of.end() ? states.end() : states.find(id->second);
    return state == states.end() ? nullptr : state->second;
}

std::shared_ptr<const World> build_world(WorldInput input, const policy::IdentityNumbering& number,
                                         const World* previous)
{
    auto world = std::make_shared<World>();
    world->generation = input.generation;
    world->policy_version = input.policy_version;
    world->policy = std::move(input.policy);
    world->composition = std::move(input.composition);
    auto built = policy::build_identities(*world->policy, world->composition.workloads, number);
    world->identities = std::move(built.identities);
    world->addresses = std::move(built.addresses);
    world->identity_of = identify(*world);
    StateBuilder builder(*world, previous);
    for (const auto& [agent, workload] : world->composition.agents)
        if (const auto id = world->identity_of.find(workload); id != world->identity_of.end())
            builder.add(id->second, workload);
    return world;
}

} // namespace bulkhead::controller
