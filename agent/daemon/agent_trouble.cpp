// SPDX-License-Identifier: Apache-2.0
// Agent: what may be broken on a host without being a reason not to enforce.
#include "agent/daemon/agent.h"

#include "agent/daemon/environment.h"
#include "agent/state/locks.h"
#include "common/core/log.h"

#include <filesystem>

namespace bulkhead::agent {

// Without a state folder that can be written to, this host still enforces: what is pinned, what was saved, what the
// folder or the controller says. Only another agent on it ends the start.
Status Agent::open_state_dir()
{
    look_at_state_dir();
    if (auto lock = lock_state_dir(config_.state_dir))
        state_lock_ = std::move(*lock);
    else if (lock.error().kind == ErrorKind::refused)
        return tl::unexpected(lock.error());
    if (auto id = standalone_agent_id(config_.state_dir))
        agent_id_ = std::move(*id);
    else {
        log_error("this agent has an id for this run only: {}", id.error().message);
        BULKHEAD_TRY(agent_id_, random_agent_id());
    }
    if (const auto enrolled = enrolled_agent_id(config_.state_dir); enrolled && !config_.controller.empty())
        agent_id_ = *enrolled;
    return {};
}

void Agent::look_at_state_dir()
{
    const auto prepared = prepare_state_dir(config_.state_dir);
    const auto now = prepared ? std::string()
                              : fmt::format("the state folder cannot be used, so new policies, records and "
                                            "certificates are not kept: {}",
                                            prepared.error().message);
    if (!now.empty() && now != state_trouble_)
        log_error("{}", now);
    else if (now.empty() && !state_trouble_.empty())
        log_info("the state folder {} can be used again", config_.state_dir);
    state_trouble_ = now;
}

// Whether an agent has enforced something here before, which is not to be dropped for what is found wrong now.
bool Agent::something_before() const
{
    std::error_code ignored; // what cannot be seen is not there
    for (const char* name : {"/policy.pb", "/policy.previous.pb", "/quarantine.pb"})
        if (std::filesystem::exists(config_.state_dir + name, ignored))
            return true;
    return std::filesystem::exists(config_.pin_dir + "/" + instance_name(cgroup_), ignored);
}

// Credentials that are lost are an error of the command line at the very first start only.
Status Agent::check_uplink_first()
{
    if (config_.controller.empty())
        return {};
    const auto checked = check_uplink(uplink_options());
    return checked || !something_before() ? checked : Status{};
}

// Another agent on the socket ends the start; that nobody can ask this one does not.
Status Agent::listen_locally()
{
    LocalQuestions questions{[this] { return loop_->call([this] { return local_status(); }); },
                             [this] {
                                 const auto view = loop_->call([this] { return enforcer_->view(); });
                                 return view ? *view : nullptr;
                             },
                             [this](const v1::LocalQuarantine& wish) {
                                 return loop_->call([this, &wish] { return set_local_quarantine(wish); });
                             },
                             [this] { return loop_->call([this] { return kernel_contents(); }); }};
    auto served = serve_local(config_.socket, std::move(questions), *spool_);
    const auto why = served ? std::string() : served.error().message;
    if (served)
        local_ = std::move(*served);
    else if (served.error().kind == ErrorKind::refused)
        return tl::unexpected(served.error());
    else if (why != local_error_)
        log_error("nobody on this host can ask this agent; it tries again every minute: {}", why);
    local_error_ = why;
    return {};
}

void Agent::connect_to_controller()
{
    auto started = start_uplink(uplink_options(), *this, *spool_);
    const auto why = started ? std::string() : started.error().message;
    if (started)
        uplink_ = std::move(*started);
    else if (why != uplink_error_)
        log_error("no controller gives this host its policy; what is saved stays in force: {}", why);
    uplink_error_ = why;
}

// What was no reason not to enforce, and may have been put right meanwhile.
void Agent::try_again()
{
    if (!state_trouble_.empty())
        look_at_state_dir();
    if (!local_)
        if (const auto listening = listen_locally(); !listening)
            log_error("{}", listening.error().message);
    if (!uplink_ && !config_.controller.empty())
        connect_to_controller();
}

} // namespace bulkhead::agent
