// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/compile.h"
#include "controller/store/control_store.h"

#include <string>
#include <unordered_map>
#include <vector>

namespace bulkhead::controller {

// Numbers label sets, once and for ever. New numbers count only when keep() has stored them; forget() takes them back.
// Not thread-safe.
class IdentityBook {
public:
    [[nodiscard]] static Result<IdentityBook> load(ControlStore& store);

    policy::IdentityId number(const policy::Labels& labels, const std::string& named_workload);
    Status keep();
    void forget();

private:
    explicit IdentityBook(ControlStore& store) : store_(&store) {}

    ControlStore* store_;
    std::unordered_map<std::string, policy::IdentityId> numbers_;
    std::vector<NumberedIdentity> pending_;
    policy::IdentityId next_ = 1;
};

} // namespace bulkhead::controller
