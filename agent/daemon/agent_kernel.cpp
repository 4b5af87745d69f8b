// SPDX-License-Identifier: Apache-2.0
// Agent: what it asks the kernel about, and what it follows there.
#include "agent/daemon/agent.h"
#include "common/core/log.h"

#include <fmt/ranges.h>

#include <chrono>
#include <thread>
#include <utility>

namespace bulkhead::agent {
namespace {

// mkdir(2) tells of a cgroup before it shows it, and we may run on the same processor.
constexpr std::chrono::microseconds until_seen{200};

} // namespace

// At once when one comes; and once a second, should another program have taken the guard away.
void Agent::follow_interfaces()
{
    const auto followed = datapath_->follow_interfaces();
    const std::string now = followed ? std::string() : followed.error().message;
    if (!now.empty() && now != interface_error_)
        log_error("{}", now);
    interface_error_ = now;
    auto guarded = datapath_->guarded_interfaces();
    if (guarded == guarded_)
        return;
    guarded_ = std::move(guarded);
    log_info("the guard is on {}", guarded_.empty() ? "no interface" : fmt::format("{}", fmt::join(guarded_, ", ")));
}

void Agent::report_denials()
{
    const auto taken = datapath_->take_denials([this](std::span<const bh_denial> denials) {
        events_->with([&](FlowAssembler& assembler) { assembler.on_denials(denials); });
    });
    const auto error = taken ? std::string() : taken.error().message;
    if (!error.empty() && error != denials_error_)
        log_warning("denials are counted, but cannot be reported: {}", error);
    denials_error_ = error;
}

void Agent::look_for_namespaces()
{
    auto change = datapath_->follow_namespaces();
    if (change.trouble)
        namespace_trouble_ = std::move(change.trouble->message);
    judge_newcomers(change);
    if (change.unfinished)
        hints_->go_on_soon();
}

// Once a second, however often it is looked, and whoever causes it.
void Agent::tell_namespace_trouble()
{
    if (!namespace_trouble_.empty() && namespace_trouble_ != namespace_error_)
        log_error("{}", namespace_trouble_);
    namespace_error_ = std::exchange(namespace_trouble_, {});
}

bool Agent::follow_hints(std::span<const NamespaceHint> hints)
{
    const auto change = datapath_->follow_hints(hints);
    judge_newcomers(change);
    return change.unfinished;
}

void Agent::judge_newcomers(const NamespaceChange& change)
{
    if (!change.came.empty())
        log_debug("the inbound door stands in network namespace {}", fmt::join(change.came, ", "));
    enforcer_->judge_newcomers(change.came);
}

// Once for each look: whoever makes cgroups by the thousand wakes nobody while the loop rests from the last one.
void Agent::await_new_cgroups()
{
    if (const int events = datapath_->cgroup_events(); events >= 0)
        loop_->watch_once(events, [this] { cgroup_looks_->ask(); });
}

// systemd makes a unit's cgroup anew at each start, and a process in it may connect some milliseconds later.
bool Agent::look_for_cgroups()
{
    const bool came = datapath_->take_new_cgroups();
    if (came)
        std::this_thread::sleep_for(until_seen);
    enforcer_->look_at_cgroups();
    await_new_cgroups();
    return came; // once more, should it have taken longer to be seen
}

// They are gone, as a rule; one that is bound to an interface is found only with its number, which a walk shows.
void Agent::cut_missed()
{
    const auto missed = late_->take_missed();
    if (missed.empty())
        return;
    const auto sockets = datapath_->walk_sockets();
    if (!sockets) {
        late_->missed_again(missed);
        return log_warning("cannot walk sockets: {}", sockets.error().message);
    }
    for (const auto& walked : *sockets)
        if (missed.contains(walked.socket.cookie))
            if (const auto destroyed = datapath_->destroy_socket(walked.socket); !destroyed || !*destroyed)
                log_warning("a connection that was completed after it was forbidden lives on: {}",
                            destroyed ? "it is not found by its ends" : destroyed.error().message);
}

void Agent::report_flows()
{
    cut_missed();
    walk_when_due();
    const auto flows = datapath_->udp_flows();
    if (!flows && flows.error().message != kernel_error_)
        log_warning("cannot read UDP conversations: {}", flows.error().message);
    kernel_error_ = flows ? std::string() : flows.error().message;
    if (!flows)
        return; // an empty list would end every conversation
    const auto counters = datapath_->counters();
    events_->with([&](FlowAssembler& assembler) { assembler.tick(counters, *flows); });
    if (seconds_since_walk_ == 0 || // so that what is over is forgotten
        events_->with([](FlowAssembler& assembler) { return assembler.wants_exchanges(); }))
        if (const auto exchanges = datapath_->exchanges())
            events_->with([&](FlowAssembler& assembler) { assembler.on_exchanges(*exchanges); });
    if (const auto kept = losses_->keep(counters); !kept)
        log_debug("{}", kept.error().message); // costs a second report after a restart
}

// The kernel keeps its listener table by itself but for what it cannot see: who is left on a shared port, and sockets
// that end without a close(2). A row too many is judged, so there is no hurry; but whoever inherits a socket is judged
// by the owner before until he is seen.
void Agent::walk_when_due()
{
    constexpr std::uint64_t soon = 3, at_the_latest = 30; // seconds
    listeners_doubtful_ = events_->take_listener_gone() || listeners_doubtful_;
    has_heirs_ = listener_watch_.owner_ended(datapath_->listeners()) || has_heirs_;
    ++seconds_since_walk_;
    if (walks_rest())
        return;
    if (has_heirs_ || seconds_since_walk_ >= (listeners_doubtful_ ? soon : at_the_latest) ||
        events_->with([](FlowAssembler& assembler) { return assembler.wants_walk(); }))
        walk_sockets();
}

bool Agent::walks_rest() const
{
    return std::chrono::seconds(seconds_since_walk_) < walk_rests_;
}

// The last process of a program or unit has ended: who has inherited a socket of it is found before it has no class any
// more, and so is refused at no moment.
void Agent::before_rows_go(std::span<const FacetRow> rows)
{
    if (!owned_by_any(datapath_->listeners(), rows))
        return;
    has_heirs_ = true;
    if (!walks_rest())
        walk_sockets();
}

void Agent::walk_sockets()
{
    seconds_since_walk_ = 0;
    listeners_doubtful_ = has_heirs_ = false;
    const auto begun = clock_.monotonic();
    const auto sockets = datapath_->walk_sockets();
    // Anybody can make it take long, with descriptors, and a tenth of the time is enough for that.
    walk_rests_ = std::chrono::floor<std::chrono::seconds>(10 * (clock_.monotonic() - begun));
    if (!sockets) {
        log_warning("cannot walk sockets: {}", sockets.error().message);
        return;
    }
    if (const auto adopted = datapath_->adopt_listeners(*sockets); !adopted)
        log_warning("cannot bring the listener table up to date: {}", adopted.error().message);
    events_->with([&](FlowAssembler& assembler) { assembler.on_walk(*sockets); });
}

} // namespace bulkhead::agent
