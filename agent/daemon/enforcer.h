// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/events/flow_assembler.h"
#include "agent/sessions/sessions.h"
#include "agent/state/policy_state.h"
#include "agent/state/quarantine_state.h"
#include "agent/subjects/subjects.h"
#include "common/core/clock.h"

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace bulkhead::agent {

// The one place where the kernel's planes change: host state + failsafes -> planes -> switch -> words for records ->
// live sessions -> disk. A step that fails before the switch leaves everything as it was. Not thread-safe.
//
// At most two policies are held: the confirmed one, and one on trial, which the kernel by itself stops enforcing at its
// deadline. A quarantine stands before both: while it does, they are kept, but only failsafes are enforced.
class Enforcer {
public:
    // A trial that ended without being confirmed.
    struct Lapse {
        std::uint64_t version = 0, back_to = 0; // policy versions; 0: none, or not known
        std::string why;
    };
    struct Hooks {
        // Called before events of the view's generation can come.
        std::function<void(std::shared_ptr<const PolicyView>)> on_view;
        std::function<void(const Lapse&)> on_lapse;
        // The time of a quarantine is over, and it has ended.
        std::function<void(const QuarantineHold&)> on_quarantine_over;
        // These rows of processes are no more, or say something else: called before the kernel is told.
        std::function<void(std::span<const FacetRow>)> before_rows_go = [](auto) {};
    };
    // What is kept on disk. Borrowed.
    struct Stores {
        PolicyState& policy;
        QuarantineState& quarantine;
    };

    // Borrows all but the last two for its life.
    Enforcer(Datapath& datapath, SubjectResolver& subjects, SessionKeeper& sessions, Stores stores, const Clock& clock,
             std::string boot_id, Hooks hooks);

    // Once, before everything else. Planes that are pinned go on as they are, and get their words back from disk; with
    // none in force (a reboot) the confirmed policy is realised, or, if it is lost, the one before it. Then the
    // failsafes are brought up to date. `inherited` names the saved failsafe rules that stay although `failsafes` has
    // none of that id (the controller's addresses before its name resolves). An error is one of realising: what the
    // kernel enforced before is still enforced.
    [[nodiscard]] Status resume(std::vector<policy::HostRule> failsafes, const std::vector<std::string>& inherited);

    // A new policy, for good. On error nothing has changed and refusal() says why. The same policy again switches
    // nothing; one that means what is on trial confirms it.
    // A signature is kept with its policy, on disk, too; it was verified before. A folder's policy has none.
    [[nodiscard]] Status enforce(wire::HostState next, PolicySource source, std::string signature = {});
    // A new policy for `window` from now, unless it is confirmed. More of the same version (the inventory changes) ends
    // when the version was to end; a version whose time is over is refused.
    [[nodiscard]] Status try_out(wire::HostState next, PolicySource source, std::chrono::nanoseconds window,
                                 std::string signature = {});
    // Refused when that version is neither on trial nor confirmed.
    [[nodiscard]] Status confirm(std::uint64_t policy_version);
    // Ends the trial at once. Refused when there is none.
    [[nodiscard]] Status roll_back();

    // The failsafes changed; does nothing when they are the same.
    [[nodiscard]] Status set_failsafes(std::vector<policy::HostRule> failsafes);
    // Puts the host into quarantine, or out of it. On error it is tried again by every tick().
    [[nodiscard]] Status set_quarantine(Quarantine quarantine);

    // Cgroups were made: what starts in them has its classes from now on, not from the next tick.
    void look_at_cgroups();
    // Network namespaces whose sessions nobody has judged yet.
    void judge_newcomers(std::span<const std::uint32_t> namespaces);
    // About once a second: processes come and go, drained sessions end, trials and quarantines are over.
    void tick();

    // Judges live sessions again, as after a switch: something may have come in past the doors.
    void look_at_sessions() { judge_sessions(); }

    // What was found damaged of the state folder at the start, a line each; until a policy is given to this agent.
    [[nodiscard]] const std::vector<std::string>& damage() const { return damage_; }
    // True when a reboot would bring back another policy than the one in force.
    [[nodiscard]] bool unsaved() const { return unsaved_; }

    // Of the policy in force: process conditions that match nothing at present, or less than they may, a line each.
    [[nodiscard]] const std::vector<std::string>& unmatched() const { return unmatched_; }

    void refuse(std::string why) { refusal_ = std::move(why); }
    [[nodiscard]] const std::string& refusal() const { return refusal_; }
    // True when the policy in force is known: given, or read back from disk.
    [[nodiscard]] bool has_policy() const { return confirmed_ || trial_; }
    [[nodiscard]] bool plane_in_force() const;
    // Of the policy on trial, else of the confirmed one.
    [[nodiscard]] const wire::HostState& state() const { return standing() ? standing()->state : nothing_; }
    [[nodiscard]] PolicySource source() const { return standing() ? standing()->source : PolicySource::none; }
    [[nodiscard]] std::uint64_t confirmed_version() const { return confirmed_ ? confirmed_->state.policy_version : 0; }
    [[nodiscard]] std::optional<MonotonicTime> trial_until() const;
    // The version of the last trial that ended unconfirmed; 0: none since.
    [[nodiscard]] std::uint64_t lapsed_version() const { return lapsed_version_; }
    [[nodiscard]] const Quarantine& quarantine() const { return quarantine_; }
    // What the kernel does, which may lag behind what quarantine() asks for.
    [[nodiscard]] bool quarantined() const { return quarantined_; }
    // What the last switch took, from building the planes on, and when it was; 0: none since the start.
    [[nodiscard]] std::chrono::nanoseconds realise_time() const { return realise_time_; }
    [[nodiscard]] WallTime enforced_since() const { return enforced_since_; }
    [[nodiscard]] const std::vector<policy::HostRule>& failsafes() const { return failsafes_; }
    // Never null after resume().
    [[nodiscard]] const std::shared_ptr<const PolicyView>& view() const { return view_; }

private:
    struct Standing {
        wire::HostState state;
        PolicySource source = PolicySource::none;
        std::string signature;                   // of the state
        std::vector<policy::HostRule> failsafes; // that it was realised with
        std::optional<MonotonicTime> until;      // of a trial
        std::shared_ptr<const PolicyView> view{};
    };
    // For digests of programs, before sessions are judged: none is cut because its program is large.
    static constexpr std::chrono::seconds patience_at_switch{5};

    [[nodiscard]] const Standing* standing() const { return trial_ ? &*trial_ : confirmed_ ? &*confirmed_ : nullptr; }

    // enforcer.cpp
    static void log_once(const Status& status, std::string& last, const char* what);
    Status enforce_for_good(wire::HostState next, PolicySource source, std::string signature);
    Status realise(Standing next);
    Status realise_again(const Standing& what);
    Status relabel(Standing& standing, wire::HostState next, PolicySource source, std::string signature);
    Result<bool> switch_to(std::shared_ptr<PolicyView> view, Standing& next);
    void take_over(Standing next, bool prepared);
    void show(std::shared_ptr<const PolicyView> view);
    [[nodiscard]] std::shared_ptr<const PolicyView> empty_view(std::uint32_t generation) const;
    Status prepare(const Standing& standing, std::uint32_t kernel_generation);
    bool save(const Standing& standing, std::uint32_t kernel_generation);
    void commit(const Standing& standing, bool prepared);
    void save_late();
    void judge_sessions();
    void look_at_expiries();
    void follow_clock();
    [[nodiscard]] std::chrono::nanoseconds clock_offset() const;
    [[nodiscard]] WallTime kernels_wall_time() const;
    [[nodiscard]] std::optional<WallTime> next_expiry() const;
    void refresh_facets(std::chrono::milliseconds patience);
    Status tell_facets(const Standing& policy, std::optional<FacetTable>& told, FacetTable of_now);
    Status tell_cgroups(const Standing& policy, std::optional<FacetTable>& told);

    // enforcer_trial.cpp
    Status begin_trial(wire::HostState next, PolicySource source, std::chrono::nanoseconds window,
                       std::string signature);
    Status keep_trial();
    Status end_trial();
    void forget_facets();
    void look_at_trial();
    void tell_lapse(std::uint64_t version, std::string why);
    [[nodiscard]] std::shared_ptr<const PolicyView> fallback_view() const;

    // enforcer_quarantine.cpp
    Status engage();
    Status disengage();
    void look_at_quarantine();

    // enforcer_resume.cpp
    struct Inheritance {
        std::vector<policy::HostRule> failsafes;
        const std::vector<std::string>& inherited;
    };
    Status resume_pinned(PolicyState::Loaded& loaded, Inheritance inheritance);
    [[nodiscard]] bool find_enforced(PolicyState::Loaded& loaded, std::uint32_t generation);
    void drop_unplugged_trial(const SavedPolicy& trial);
    Status resume_unplugged(PolicyState::Loaded& loaded, Inheritance inheritance);
    Status resume_quarantined(PolicyState::Loaded& loaded, Inheritance inheritance);
    void load_quarantine();
    void tell_damage(const std::string& what);
    std::optional<SavedPolicy> policy_before();
    Status realise_policy_before(Status current, const Inheritance& inheritance);
    Status realise_saved(SavedPolicy saved, const Inheritance& inheritance);
    Status adopt_trial(PolicyState::Loaded& loaded);
    Status adopt_confirmed(PolicyState::Loaded& loaded, std::uint32_t generation);
    [[nodiscard]] bool describes(const std::optional<SavedPolicy>& saved, std::uint32_t generation) const;

    Datapath& datapath_;
    SubjectResolver& subjects_;
    SessionKeeper& sessions_;
    Stores stores_;
    const Clock& clock_;
    std::string boot_id_;
    Hooks hooks_;

    std::optional<Standing> confirmed_, trial_;
    const wire::HostState nothing_;
    std::uint64_t lapsed_version_ = 0;
    Quarantine quarantine_;
    bool quarantined_ = false;
    std::vector<policy::HostRule> failsafes_;
    std::shared_ptr<const PolicyView> view_;
    std::optional<WallTime> expiry_; // when the next rule of the view ends
    // How far the wall clock was ahead of the monotonic one when the kernel was told when rules end.
    std::optional<std::chrono::nanoseconds> realised_offset_, fallback_offset_;
    MonotonicTime clock_again_{};
    std::shared_ptr<const PolicyView> unknown_view_; // of planes that another agent left without words, or of none
    // What the kernel has been told for the planes of standing(), and of confirmed_ during a trial; none: that is not
    // known, and is told again.
    std::optional<FacetTable> facets_, fallback_facets_;
    std::vector<std::string> unmatched_;
    std::chrono::nanoseconds realise_time_{0};
    WallTime enforced_since_{};
    bool unsaved_ = false; // the confirmed policy is not on disk
    unsigned ticks_unsaved_ = 0;
    std::vector<std::string> damage_;
    std::string refusal_;
    // The last ones that were logged, so that each is logged once.
    std::string facet_error_, fallback_facet_error_, session_error_, trial_error_, quarantine_error_, clock_error_;
};

} // namespace bulkhead::agent
