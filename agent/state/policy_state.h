// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/core/result.h"
#include "common/wire/wire.h"

#include <optional>
#include <string>
#include <vector>

namespace bulkhead::agent {

// Who gave the policy that is enforced.
enum class PolicySource : std::uint8_t { none = 0, folder = 1, controller = 2 };

// What is needed to enforce the same after a reboot, and to name rules for planes that are pinned.
struct SavedPolicy {
    PolicySource source = PolicySource::none;
    std::uint32_t kernel_generation = 0; // of the switch that this belongs to
    std::string boot_id;                 // kernel generations of another boot mean nothing
    wire::HostState state;               // as it came, without failsafes
    std::string signature;               // of the state, by the controller's authority; empty: none was given
    std::vector<policy::HostRule> failsafes;
    std::optional<MonotonicTime> until; // of a trial

    bool operator==(const SavedPolicy&) const = default;
};

// STATE/policy.pb, and STATE/policy.next.pb while a switch is under way: written before the switch with the generation
// that it will have, and renamed after it. So, wherever a crash falls, one of the files describes what the kernel
// enforces. A policy on trial is kept beside the other, in STATE/policy.trial.pb, until it is confirmed. What was
// policy.pb before, and another policy, is kept as STATE/policy.previous.pb, for the day on which policy.pb cannot be read. A policy whose
// signature is not by the authority of STATE/ca.pem (agent/state/authority.h) counts as one that cannot be read. Format
// in docs/agent.md.
class PolicyState {
public:
    explicit PolicyState(std::string state_dir) : dir_(std::move(state_dir)) {}

    struct Loaded {
        std::optional<SavedPolicy> current, next, trial;
        // One line for each file that was set aside as ".damaged", or whose signature could not be verified.
        std::vector<std::string> damage;
    };
    [[nodiscard]] Result<Loaded> load();
    // The policy before the current one; read only when there is no other.
    [[nodiscard]] std::optional<SavedPolicy> load_previous(std::vector<std::string>& damage);

    [[nodiscard]] Status prepare(const SavedPolicy& policy); // before the switch
    [[nodiscard]] Status commit();                           // after it
    void discard();                                          // there was no switch
    [[nodiscard]] Status commit_trial();                     // after the switch to a trial
    [[nodiscard]] Status confirm_trial();                    // the trial is the policy
    void drop_trial();

private:
    std::optional<SavedPolicy> load_file(const std::string& name, std::vector<std::string>& damage);
    [[nodiscard]] Status rename(const char* from, const char* to) const;
    struct Edition { // which policy a file has, whatever boot and plane it was saved for
        PolicySource source = PolicySource::none;
        std::uint64_t version = 0, generation = 0;
        bool operator==(const Edition&) const = default;
    };
    [[nodiscard]] static std::optional<Edition> edition_of(const std::optional<SavedPolicy>& saved);
    [[nodiscard]] Status replace_current(const char* by, const std::optional<Edition>& edition);

    std::string dir_;
    std::optional<Edition> current_, next_, trial_; // as far as known
};

[[nodiscard]] std::string encode(const SavedPolicy& policy);
[[nodiscard]] Result<SavedPolicy> decode_saved_policy(const std::string& bytes);

} // namespace bulkhead::agent
