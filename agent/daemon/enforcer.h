// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/events/flow_assembler.h"
#include "agent/sessions/sessions.h"
#include "agent/state/policy_state.h"
#include "agent/subjects/subjects.h"

#include <functional>
#include <memory>
#include <string>

namespace bulkhead::agent {

// The one place where the kernel's planes change: host state + failsafes -> planes -> switch -> words for records ->
// live sessions -> disk. A step that fails before the switch leaves everything as it was. Not thread-safe.
class Enforcer {
public:
    struct Hooks {
        // Called before events of the view's generation can come.
        std::function<void(std::shared_ptr<const PolicyView>)> on_view;
        std::function<void(const ForbiddenSession&)> on_cut;
    };

    // Borrows the first four for its life.
    Enforcer(Datapath& datapath, SubjectResolver& subjects, SessionKeeper& sessions, PolicyState& saved,
             std::string boot_id, Hooks hooks);

    // Once, before everything else. Planes that are pinned go on as they are, and get their words back from disk; with
    // none in force (a reboot) the saved policy is realised. Then the failsafes are brought up to date. `inherited`
    // names the saved failsafe rules that stay although `failsafes` has none of that id (the controller's addresses
    // before its name resolves). An error is one of realising: what the kernel enforced before is still enforced.
    [[nodiscard]] Status resume(std::vector<policy::HostRule> failsafes, const std::vector<std::string>& inherited);

    // A new policy. On error nothing has changed and refusal() says why. The same policy again switches nothing.
    [[nodiscard]] Status enforce(wire::HostState next, PolicySource source);
    // The failsafes changed; does nothing when they are the same.
    [[nodiscard]] Status set_failsafes(std::vector<policy::HostRule> failsafes);

    // About once a second: processes come and go, drained sessions end.
    void tick();

    void refuse(std::string why) { refusal_ = std::move(why); }
    [[nodiscard]] const std::string& refusal() const { return refusal_; }
    // True when the policy in force is known: given, or read back from disk.
    [[nodiscard]] bool has_policy() const { return has_policy_; }
    [[nodiscard]] bool plane_in_force() const;
    [[nodiscard]] const wire::HostState& state() const { return state_; }
    [[nodiscard]] PolicySource source() const { return source_; }
    [[nodiscard]] const std::vector<policy::HostRule>& failsafes() const { return failsafes_; }
    // Never null after resume().
    [[nodiscard]] const std::shared_ptr<const PolicyView>& view() const { return view_; }

private:
    Status adopt_pinned(PolicyState::Loaded& loaded, std::vector<policy::HostRule> failsafes,
                        const std::vector<std::string>& inherited);
    void show(std::shared_ptr<const PolicyView> view);
    void show_nothing();
    Status realise(wire::HostState next, PolicySource source, std::vector<policy::HostRule> failsafes);
    Status relabel(wire::HostState next, PolicySource source);
    bool save(const wire::HostState& state, PolicySource source, const std::vector<policy::HostRule>& failsafes,
              std::uint32_t kernel_generation);
    void commit(bool prepared);
    void save_late();
    void judge_sessions();
    void refresh_facets();

    Datapath& datapath_;
    SubjectResolver& subjects_;
    SessionKeeper& sessions_;
    PolicyState& saved_;
    std::string boot_id_;
    Hooks hooks_;

    bool has_policy_ = false;
    PolicySource source_ = PolicySource::none;
    wire::HostState state_;
    std::vector<policy::HostRule> failsafes_;
    std::shared_ptr<const PolicyView> view_;
    FacetTable facets_;
    bool unsaved_ = false; // what is in force is not on disk
    unsigned ticks_unsaved_ = 0;
    std::string refusal_;
    std::string facet_error_; // the last one that was logged, so that it is logged once
    std::string session_error_;
};

} // namespace bulkhead::agent
