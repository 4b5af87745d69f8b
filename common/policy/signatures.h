// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace bulkhead::policy {

// Numbers distinct sets of small integers, so that sets are compared and united by number. 0 is the empty set.
class SignatureTable {
public:
    using Id = std::uint32_t;
    using Members = std::vector<std::uint32_t>; // sorted, without duplicates

    SignatureTable();

    Id intern(const Members& members);
    Id unite(Id a, Id b);
    [[nodiscard]] const Members& members(Id id) const { return *sets_[id]; }
    // Sum of the sizes of all sets: what the table costs.
    [[nodiscard]] std::size_t weight() const { return weight_; }

private:
    struct Hash {
        std::size_t operator()(const Members& members) const noexcept;
    };

    std::unordered_map<Members, Id, Hash> ids_;
    std::vector<const Members*> sets_; // keys of ids_, which never move
    std::unordered_map<std::uint64_t, Id> unions_;
    std::size_t weight_ = 0;
};

} // namespace bulkhead::policy
