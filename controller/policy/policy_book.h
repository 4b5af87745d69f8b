// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "controller/policy/identity_book.h"
#include "controller/policy/world.h"

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace bulkhead::controller {

struct Applied {
    std::vector<std::string> diagnostics; // not empty: nothing was changed
    std::uint64_t version = 0;
    bool unchanged = false;
};

// The policy in force and the world that follows from it. Thread-safe.
class PolicyBook {
public:
    // A stored policy that this program no longer accepts is logged; then there is no world until another is applied,
    // and the agents go on with what they have.
    [[nodiscard]] static Result<std::unique_ptr<PolicyBook>> load(ControlStore& store, const Inventory& inventory,
                                                                  const Clock& clock);

    // Parses, validates and compiles for every known label set; only then stores and puts in force. Errors are the
    // store's.
    Result<Applied> apply(const std::vector<policy::SourceFile>& files, const std::string& message,
                          const std::string& author);

    // Builds the world anew from the inventory.
    Status refresh();

    [[nodiscard]] std::shared_ptr<const World> world() const; // may be null
    [[nodiscard]] std::uint64_t version() const;              // newest stored; 0: none

    // Called after every change of the world, on the thread that changed it.
    void on_change(std::function<void()> listener) { listener_ = std::move(listener); }

private:
    PolicyBook(ControlStore& store, const Inventory& inventory, const Clock& clock, IdentityBook identities)
        : store_(store), inventory_(inventory), clock_(clock), identities_(std::move(identities))
    {}
    std::shared_ptr<const World> build(std::shared_ptr<const policy::PolicySet> policy, std::uint64_t version);
    void put_in_force(std::shared_ptr<const World> world);

    ControlStore& store_;
    const Inventory& inventory_;
    const Clock& clock_;
    std::function<void()> listener_;

    std::mutex change_mutex_; // one change at a time, from building to putting in force
    IdentityBook identities_;
    std::shared_ptr<const policy::PolicySet> policy_;
    std::vector<policy::SourceFile> files_;

    mutable std::mutex mutex_; // guards what follows
    std::shared_ptr<const World> world_;
    std::uint64_t version_ = 0;
};

} // namespace bulkhead::controller
