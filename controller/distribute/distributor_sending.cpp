// SPDX-License-Identifier: Apache-2.0
// What one agent is sent, and when.
#include "controller/distribute/distributor.h"

#include "common/core/log.h"
#include "common/wire/state_digest.h"
#include "controller/store/audit.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

using std::chrono::steady_clock;
constexpr std::chrono::milliseconds trial_message_age{200};
constexpr std::chrono::seconds longest_pause{300}; // of an agent that refuses

bool says_nothing(const v1::PolicyUpdate& delta, const wire::HostState& from, const wire::HostState& to)
{
    return !delta.has_host_policy() && delta.upsert_identities().empty() && delta.remove_identities().empty() &&
           delta.upsert_addresses().empty() && delta.remove_addresses().empty() &&
           from.policy_version == to.policy_version && from.own_labels == to.own_labels;
}

} // namespace

void Distributor::push(Session& session)
{
    if (!world_ || session.sent != Sent::nothing)
        return;
    const auto& id = session.link->agent_id();
    const auto target = world_->state_for(id);
    if (!target)
        return;
    if (!world_->trial && session.trial_version != 0 && session.trial_version == target->policy_version) {
        send_confirmation(session);
        return;
    }
    if (world_->trial) {
        if (clock_.monotonic() >= world_->trial->until || session.lapsed_version == target->policy_version)
            return; // it is over, or about to be
        // A host goes back to what it has confirmed: that must be what all go back to.
        const auto& on = world_->trial->on;
        if (on && session.trial_version != 0 && session.trial_version == on->policy_version) {
            send_confirmation(session);
            return;
        }
        const auto base = on ? on->state_for(id) : nullptr;
        if (base && session.tells_standing && session.confirmed_version != on->policy_version &&
            !is_held_back(session, base)) {
            send(session, *on, base, std::nullopt);
            return;
        }
    }
    if (target != session.held && !is_held_back(session, target))
        send(session, *world_, target, world_->trial);
}

bool Distributor::is_held_back(const Session& session, const State& state)
{
    const bool waits = steady_clock::now() < session.again_at;
    return std::any_of(session.refused.begin(), session.refused.end(), [&](const State& one) {
        return one == state || (waits && one->policy_version == state->policy_version);
    });
}

void Distributor::note_refusal(Session& session, const State& state)
{
    if (session.refused.size() == 2)
        session.refused.erase(session.refused.begin());
    session.refused.push_back(state);
    session.again_at = steady_clock::now() + session.pause;
    session.pause = std::min(2 * session.pause, longest_pause);
}

void Distributor::look_after_refusing()
{
    for (auto& [id, session] : sessions_)
        if (!session.refused.empty() && steady_clock::now() >= session.again_at)
            push(session);
}

// `target` is a state of `world`.
void Distributor::send(Session& session, const World& world, const State& target,
                       const std::optional<TrialTerms>& trial)
{
    const auto message = message_for(session.held, world, target, trial);
    if (!message)
        return;
    session.sent = trial ? Sent::on_trial : Sent::for_good;
    session.in_flight = target;
    session.in_flight_generation = target->generation;
    session.in_flight_version = target->policy_version;
    session.in_flight_is_snapshot = message->update().snapshot();
    session.sent_at = steady_clock::now();
    session.link->send(message);
}

void Distributor::send_confirmation(Session& session)
{
    auto message = std::make_shared<v1::ControllerMessage>();
    auto& confirm = *message->mutable_confirm();
    session.sent = Sent::confirmation;
    session.in_flight_version = session.trial_version;
    session.in_flight_generation = session.held ? session.held->generation : world_->generation;
    confirm.set_policy_version(session.trial_version);
    confirm.set_generation(session.in_flight_generation);
    session.sent_at = steady_clock::now();
    session.link->send(std::move(message));
}

// Null: there is nothing to say. Agents with the same labels share the message, while what it says of the time that is
// left is right.
std::shared_ptr<const v1::ControllerMessage>
Distributor::message_for(const State& from, const World& world, const State& to, const std::optional<TrialTerms>& trial)
{
    const auto now = steady_clock::now();
    const auto [position, is_new] = messages_.try_emplace({from, to});
    auto& prepared = position->second;
    if (is_new) {
        auto update = from ? wire::delta_between(*from, *to) : wire::snapshot_of(*to);
        if (!from || !says_nothing(update, *from, *to)) {
            auto signature = signature_of(world, to);
            if (!signature) { // an agent would refuse it
                log_error("policy version {} is not sent: {}", to->policy_version, signature.error().message);
                messages_.erase(position);
                return nullptr;
            }
            update.set_signature(*std::move(signature));
            auto message = std::make_shared<v1::ControllerMessage>();
            *message->mutable_update() = std::move(update);
            prepared.message = std::move(message);
        }
    }
    if (!prepared.message || !trial || (!is_new && now - prepared.made_at < trial_message_age))
        return prepared.message;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(trial->until - clock_.monotonic());
    auto message = std::make_shared<v1::ControllerMessage>(*prepared.message);
    message->mutable_update()->set_trial_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(left.count(), 1)));
    prepared = {std::move(message), now};
    return prepared.message;
}

// One for all agents that are to have this state, whatever they have.
Result<std::string> Distributor::signature_of(const World& world, const State& state)
{
    if (const auto known = signatures_.find(state); known != signatures_.end())
        return known->second;
    BULKHEAD_TRY(auto signature,
                 signer_.sign(wire::policy_signature_context, wire::state_digest(*state, world.inventory_digest)));
    signatures_.emplace(state, signature);
    return signature;
}

// Without a quarantine there is something to say only to an agent that knows of one.
void Distributor::send_quarantine(const std::shared_ptr<AgentLink>& link, bool to_be_told)
{
    const auto workload = inventory_.workload_of(link->agent_id());
    const auto quarantine = workload ? inventory_.quarantine_of(*workload) : std::nullopt;
    if (!quarantine && !to_be_told)
        return;
    auto message = std::make_shared<v1::ControllerMessage>();
    auto& order = *message->mutable_quarantine();
    if (quarantine) {
        order.set_on(true);
        order.set_by(quarantine->by);
        order.set_reason(quarantine->reason);
        if (quarantine->until_us != 0) { // clocks differ: it is told how long
            const auto left_us = std::max<std::int64_t>(quarantine->until_us - unix_micros(clock_), 1000);
            order.set_left_ms(static_cast<std::uint64_t>(left_us / 1000));
        }
    }
    link->send_order(std::move(message));
}

// Those whose time is over. Hosts see to it by themselves, too.
void Distributor::look_after_quarantines()
{
    for (const auto& quarantine : inventory_.quarantines()) {
        if (quarantine.until_us == 0 || unix_micros(clock_) < quarantine.until_us)
            continue;
        auto audit = make_audit(clock_, {controller_agent_id, "workload.release", quarantine.workload,
                                         "the time is over; it was by " + quarantine.by});
        if (const auto lifted = inventory_.lift_quarantine(quarantine.workload, std::move(audit)); !lifted)
            log_error("{}; trying again", lifted.error().message);
        else
            handle(QuarantineChanged{quarantine.workload});
    }
}

} // namespace bulkhead::controller
