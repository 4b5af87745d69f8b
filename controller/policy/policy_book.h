// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "controller/policy/identity_book.h"
#include "controller/policy/world.h"

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::controller {

struct Application {
    std::vector<policy::SourceFile> files;
    std::string message, author;
    std::optional<std::chrono::microseconds> confirm_within; // none: for good
    bool force = false;                                      // also while another version is on trial
};

struct Applied {
    std::vector<std::string> diagnostics; // not empty: nothing was changed
    std::uint64_t version = 0;
    bool unchanged = false;
};

// The version that is on trial.
struct PendingTrial {
    std::uint64_t version = 0;
    std::uint64_t back_to = 0; // the version in force unless it is confirmed; 0: none
    std::string author;
    std::int64_t until_us = 0;
};

inline constexpr std::chrono::seconds min_confirm_window{10};
inline constexpr std::chrono::hours max_confirm_window{24};

// The policy in force and the world that follows from it. Thread-safe.
//
// At most one version is on trial; it is in force until it is confirmed, rolled back, replaced, or its time is over.
// Hosts go back by themselves, each at its own deadline, which is never before the one kept here: a confirmation in
// time is in time for all that are connected. `trial_grace` later this side goes back, too.
class PolicyBook {
public:
    // A stored policy that this program no longer accepts is logged; then there is no world until another is applied,
    // and the agents go on with what they have. A trial whose time was over meanwhile has lapsed.
    [[nodiscard]] static Result<std::unique_ptr<PolicyBook>> load(ControlStore& store, const Inventory& inventory,
                                                                  const Clock& clock);

    // Parses, validates and compiles for every known label set; only then stores and puts in force. Refused while
    // another version is on trial, unless forced. Other errors are the store's.
    Result<Applied> apply(const Application& application);

    // The version on trial is in force for good. 0: whichever it is. Returns it. Refused when it is not on trial, or
    // its time is over.
    Result<std::uint64_t> confirm(std::uint64_t version, const std::string& who);

    // Ends the trial: what was in force before it is again. Without a trial, or to a version other than that, applies
    // the files of that version (0: of the version before) as a new one. Returns the version in force.
    Result<Applied> roll_back(std::uint64_t version, const std::string& who, const std::string& message);

    // Ends a trial whose time is over. Call about once a second.
    void look_at_trial();

    // Builds the world anew from the inventory.
    Status refresh();

    [[nodiscard]] std::shared_ptr<const World> world() const; // may be null
    [[nodiscard]] std::uint64_t version() const;              // in force; 0: none
    [[nodiscard]] std::optional<PendingTrial> trial() const;

    // Called after every change of the world, on the thread that changed it.
    void on_change(std::function<void()> listener) { listener_ = std::move(listener); }

private:
    struct Edition {
        std::uint64_t version = 0;
        std::shared_ptr<const policy::PolicySet> policy; // null: not valid for this program
        std::vector<policy::SourceFile> files;
    };
    struct Tried {
        Edition edition;
        PendingTrial terms;
        MonotonicTime until{};
    };

    // How a set of files comes into force.
    struct Change {
        Application application;
        std::string action; // of the audit record
        std::optional<TrialOutcome> ends_trial;
    };

    PolicyBook(ControlStore& store, const Inventory& inventory, const Clock& clock, IdentityBook identities)
        : store_(store), inventory_(inventory), clock_(clock), identities_(std::move(identities))
    {}
    Status load_editions();
    Result<Edition> load_edition(std::uint64_t version);
    Result<Applied> put_in_force(const Change& change);
    Status end_trial(TrialOutcome outcome, const std::string& who, const std::string& action,
                     const std::string& message);
    Result<std::uint64_t> version_before();
    [[nodiscard]] const Edition& in_force() const { return tried_ ? tried_->edition : confirmed_; }
    [[nodiscard]] std::shared_ptr<const World> build(const Edition& edition);
    [[nodiscard]] std::shared_ptr<const World> build_with_trial(const Edition& edition, MonotonicTime until);
    Status rebuild();
    void publish(std::shared_ptr<const World> world);

    ControlStore& store_;
    const Inventory& inventory_;
    const Clock& clock_;
    std::function<void()> listener_;

    std::mutex change_mutex_; // one change at a time, from building to putting in force
    IdentityBook identities_;
    std::uint64_t newest_ = 0;
    std::uint64_t last_generation_ = 0;
    Edition confirmed_;
    std::optional<Tried> tried_;

    mutable std::mutex mutex_; // guards what follows
    std::shared_ptr<const World> world_;
    std::uint64_t version_ = 0;
    std::optional<PendingTrial> trial_;
};

inline constexpr std::chrono::seconds trial_grace{2};

} // namespace bulkhead::controller
