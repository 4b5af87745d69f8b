// SPDX-License-Identifier: Apache-2.0
#include "controller/distribute/distributor.h"

#include "common/core/log.h"
#include "controller/store/audit.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

using std::chrono::steady_clock;
// Several hosts often come together, and each says where it is: wait a little and compile once.
constexpr std::chrono::milliseconds coalesce{20};
constexpr std::chrono::seconds flush_interval{1};
constexpr std::chrono::seconds answer_patience{30};

} // namespace

Distributor::Distributor(PolicyBook& book, Inventory& inventory, ControlStore& store, const Clock& clock,
                         tls::Signer signer)
    : book_(book), inventory_(inventory), store_(store), clock_(clock), signer_(std::move(signer))
{
    book_.on_change([this] {
        const std::lock_guard lock(mutex_);
        world_changed_ = true;
        wake_.notify_one();
    });
}

Distributor::~Distributor()
{
    stop();
}

void Distributor::start()
{
    world_changed_ = true;
    thread_ = std::thread([this] { run(); });
}

void Distributor::stop()
{
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_one();
    }
    if (thread_.joinable())
        thread_.join();
}

void Distributor::post(Event event)
{
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
    wake_.notify_one();
}

void Distributor::on_message(const std::shared_ptr<AgentLink>& link, v1::AgentMessage message)
{
    post(Message{link, std::move(message)});
}

void Distributor::on_gone(const std::shared_ptr<AgentLink>& link)
{
    post(Gone{link});
}

void Distributor::drop(const std::vector<std::string>& agent_ids)
{
    for (const auto& id : agent_ids)
        post(Drop{id});
}

void Distributor::quarantine_changed(const std::string& workload)
{
    post(QuarantineChanged{workload});
}

void Distributor::inventory_changed()
{
    const std::lock_guard lock(mutex_);
    if (!refresh_at_)
        refresh_at_ = steady_clock::now() + coalesce;
    wake_.notify_one();
}

void Distributor::run()
{
    flushed_at_ = steady_clock::now();
    for (;;) {
        std::deque<Event> events;
        bool world_changed = false;
        bool stopping = false;
        {
            std::unique_lock lock(mutex_);
            wake_.wait_until(lock, next_deadline(), [this] { return stopping_ || world_changed_ || !events_.empty(); });
            events.swap(events_);
            world_changed = std::exchange(world_changed_, false);
            stopping = stopping_;
        }
        for (auto& event : events)
            std::visit([this](auto& one) { handle(one); }, event);
        refresh_if_due();
        book_.look_at_trial();
        look_after_quarantines();
        if (world_changed || world_ != book_.world())
            push_all();
        look_after_silent();
        look_after_refusing();
        flush_if_due();
        if (stopping)
            break;
    }
    for (auto& [id, session] : sessions_)
        session.link->close("the controller stops");
    if (auto flushed = inventory_.flush(); !flushed)
        log_error("{}", flushed.error().message);
}

// Called with mutex_ held.
Distributor::Monotonic Distributor::next_deadline() const
{
    const auto regular = steady_clock::now() + flush_interval;
    return refresh_at_ ? std::min(regular, *refresh_at_) : regular;
}

void Distributor::handle(Message& event)
{
    const auto& id = event.link->agent_id();
    const auto known = sessions_.find(id);
    const bool is_session = known != sessions_.end() && known->second.link == event.link;
    if (event.message.has_hello()) {
        on_hello(event.link, event.message.hello());
    } else if (!is_session) {
        event.link->close("say hello first");
        return;
    } else if (event.message.has_result()) {
        on_result(known->second, event.message.result());
    } else if (event.message.has_status()) {
        if (inventory_.reported(id, event.message.status()))
            inventory_changed();
        on_status(known->second, event.message.status());
    }
    event.link->read_next();
}

void Distributor::on_hello(const std::shared_ptr<AgentLink>& link, const v1::Hello& hello)
{
    const auto& id = link->agent_id();
    if (!inventory_.workload_of(id)) {
        link->close("this agent's certificate is no longer accepted");
        return;
    }
    auto& session = sessions_[id];
    if (session.link && session.link != link)
        session.link->close("replaced by a newer stream of the same agent");
    session = Session{};
    session.link = link;
    // Held from an earlier stream to this process. After a restart of the controller nothing matches and a snapshot is
    // sent, which the agent puts in force in one step.
    if (const auto last = last_held_.find(id);
        last != last_held_.end() && last->second->generation == hello.generation())
        session.held = last->second;
    {
        const std::lock_guard lock(answers_mutex_);
        present_.insert(id);
        answers_.erase(id);
        standings_.erase(id);
    }
    if (hello.has_standing())
        on_standing(session, hello.standing());
    if (session.held) {
        v1::PolicyResult standing;
        standing.set_generation(session.held->generation);
        standing.set_policy_version(session.held->policy_version);
        standing.set_enforced(true);
        standing.set_trial_left_ms(hello.standing().trial_left_ms());
        note_answer(id, standing);
    }
    send_quarantine(link, hello.standing().has_controller_quarantine());
    if (inventory_.connected(id, hello))
        inventory_changed(); // what is sent then has its addresses
    else
        push(session);
}

void Distributor::on_result(Session& session, v1::PolicyResult result)
{
    const auto& id = session.link->agent_id();
    const bool answers = session.sent != Sent::nothing && result.generation() == session.in_flight_generation;
    // The generation says which update is meant; what version that was is known here.
    if (answers)
        result.set_policy_version(session.in_flight_version);
    inventory_.answered(id, result);
    note_answer(id, result);
    if (!answers)
        return;
    if (session.sent == Sent::confirmation)
        on_confirmation_answered(session, result);
    else
        on_update_answered(session, result);
    push(session);
}

void Distributor::on_confirmation_answered(Session& session, const v1::PolicyResult& result)
{
    session.sent = Sent::nothing;
    if (result.enforced()) {
        session.confirmed = session.held;
        session.confirmed_version = session.trial_version;
    } else { // it has gone back already, and gets the version for good
        session.held = nullptr;
        last_held_.erase(session.link->agent_id());
    }
    session.trial_version = 0;
}

void Distributor::on_update_answered(Session& session, const v1::PolicyResult& result)
{
    const auto& id = session.link->agent_id();
    const auto sent = std::exchange(session.sent, Sent::nothing);
    const auto answered = std::exchange(session.in_flight, nullptr);
    if (result.enforced()) {
        session.held = answered;
        session.refused.clear();
        session.pause = std::chrono::seconds(1);
        last_held_[id] = answered;
        session.trial_version = sent == Sent::on_trial ? answered->policy_version : 0;
        if (sent == Sent::for_good) {
            session.confirmed = answered;
            session.confirmed_version = answered->policy_version;
        }
    } else {
        // Whether it kept the rejected state as its base is its own affair: the next update is whole.
        session.held = nullptr;
        last_held_.erase(id);
        log_warning("{}: policy version {} refused: {}", id, result.policy_version(), result.refusal());
        // A snapshot that was answered so would be answered so again.
        if (answered && !(result.need_snapshot() && !session.in_flight_is_snapshot))
            note_refusal(session, answered);
    }
}

void Distributor::on_status(Session& session, const v1::HostStatus& status)
{
    if (!status.has_standing())
        return;
    const auto was_on_trial = session.trial_version;
    on_standing(session, status.standing());
    // The trial is over on the host, and nothing that is under way will tell.
    const bool went_back = was_on_trial != 0 && session.trial_version == 0 && session.sent == Sent::nothing;
    if (!went_back)
        return;
    session.held = session.confirmed && session.confirmed->generation == status.standing().generation()
                       ? session.confirmed
                       : nullptr;
    const auto& id = session.link->agent_id();
    if (session.held)
        last_held_[id] = session.held;
    else
        last_held_.erase(id);
    v1::PolicyResult standing;
    standing.set_generation(status.standing().generation());
    standing.set_policy_version(status.standing().policy_version());
    standing.set_enforced(true);
    note_answer(id, standing);
    push(session);
}

void Distributor::on_standing(Session& session, const v1::Standing& standing)
{
    note_standing(session.link->agent_id(), standing);
    session.tells_standing = true;
    session.lapsed_version = standing.lapsed_version();
    if (session.sent != Sent::nothing)
        return; // what it says may be older than what it was sent
    session.confirmed_version = standing.confirmed_version();
    session.trial_version = standing.trial_left_ms() != 0 ? standing.policy_version() : 0;
}

void Distributor::note_standing(const std::string& agent_id, const v1::Standing& standing)
{
    const std::lock_guard lock(answers_mutex_);
    standings_[agent_id] = standing;
    answered_.notify_all();
}

void Distributor::note_answer(const std::string& agent_id, const v1::PolicyResult& result)
{
    if (result.need_snapshot())
        return; // not its last word
    const std::lock_guard lock(answers_mutex_);
    answers_[agent_id] = result;
    answered_.notify_all();
}

void Distributor::handle(const Gone& event)
{
    const auto& id = event.link->agent_id();
    const auto known = sessions_.find(id);
    if (known == sessions_.end() || known->second.link != event.link)
        return;
    sessions_.erase(known);
    inventory_.disconnected(id);
    const std::lock_guard lock(answers_mutex_);
    present_.erase(id);
    answered_.notify_all();
}

void Distributor::handle(const Drop& event)
{
    last_held_.erase(event.agent_id);
    if (const auto known = sessions_.find(event.agent_id); known != sessions_.end())
        known->second.link->close("this agent's certificate is no longer accepted");
}

void Distributor::handle(const QuarantineChanged& event)
{
    for (const auto& [id, session] : sessions_)
        if (inventory_.workload_of(id) == event.workload)
            send_quarantine(session.link, true);
}

void Distributor::refresh_if_due()
{
    {
        const std::lock_guard lock(mutex_);
        if (!refresh_at_ || *refresh_at_ > steady_clock::now())
            return;
        refresh_at_.reset();
    }
    if (auto refreshed = book_.refresh(); !refreshed) {
        log_error("{}; trying again", refreshed.error().message);
        const std::lock_guard lock(mutex_);
        refresh_at_ = steady_clock::now() + flush_interval;
    }
}

void Distributor::report_contests(const World& world)
{
    for (const auto& contest : world.composition.contested) {
        if (contested_.contains(contest))
            continue;
        const auto text = fmt::format("claims {}, which {} has; it stays with {}", contest.address.to_string(),
                                      contest.owner, contest.owner);
        log_warning("{} {}", contest.claimant, text);
        const auto audit = make_audit(clock_, {controller_agent_id, "address.contested", contest.claimant, text});
        if (auto stored = store_.append_audit(audit); !stored)
            log_error("{}", stored.error().message);
    }
    contested_ = world.composition.contested;
}

void Distributor::push_all()
{
    world_ = book_.world();
    messages_.clear();
    signatures_.clear();
    if (!world_)
        return;
    report_contests(*world_);
    for (auto& [id, session] : sessions_)
        push(session);
}

// An agent that has not answered for long may have lost the update: when there is a newer one it gets that, whole.
void Distributor::look_after_silent()
{
    for (auto& [id, session] : sessions_) {
        if (session.sent == Sent::nothing || steady_clock::now() - session.sent_at < answer_patience)
            continue;
        if (!world_ || (session.in_flight && world_->state_for(id) == session.in_flight))
            continue;
        log_warning("{}: no answer to policy version {} for {} s", id, session.in_flight_version,
                    answer_patience.count());
        session.sent = Sent::nothing;
        session.in_flight = nullptr;
        session.held = nullptr;
        push(session);
    }
}

void Distributor::flush_if_due()
{
    if (steady_clock::now() - flushed_at_ < flush_interval)
        return;
    flushed_at_ = steady_clock::now();
    if (auto flushed = inventory_.flush(); !flushed)
        log_error("{}; trying again", flushed.error().message);
}

bool Distributor::wait_for_quarantine(const std::string& workload, bool held, std::chrono::milliseconds timeout)
{
    std::string id;
    for (const auto& view : inventory_.agents())
        if (view.row.workload == workload)
            id = view.row.id;
    std::unique_lock lock(answers_mutex_);
    const auto told = [&] {
        const auto standing = standings_.find(id);
        return standing != standings_.end() && standing->second.has_controller_quarantine() == held &&
               (!held || standing->second.quarantined());
    };
    answered_.wait_for(lock, timeout, [&] { return !present_.contains(id) || told(); });
    return present_.contains(id) && told();
}

std::vector<v1::AgentResult> Distributor::wait_for_answers(const Wanted& wanted, std::chrono::milliseconds timeout)
{
    std::unique_lock lock(answers_mutex_);
    const auto expected = present_;
    const auto has_answered = [&](const std::string& id) {
        const auto answer = answers_.find(id);
        return answer != answers_.end() && wanted(answer->second);
    };
    answered_.wait_for(lock, timeout, [&] {
        return std::all_of(expected.begin(), expected.end(),
                           [&](const std::string& id) { return !present_.contains(id) || has_answered(id); });
    });
    std::vector<v1::AgentResult> results;
    for (const auto& view : inventory_.agents()) {
        auto& result = results.emplace_back();
        result.set_name(view.row.workload);
        result.set_agent_id(view.row.id);
        result.set_connected(present_.contains(view.row.id));
        if (has_answered(view.row.id)) {
            result.set_answered(true);
            *result.mutable_result() = answers_[view.row.id];
        }
    }
    return results;
}

} // namespace bulkhead::controller
