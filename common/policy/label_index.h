// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/host_policy.h"

#include <string>
#include <unordered_map>
#include <vector>

namespace bulkhead::policy {

// Finds the identities that a selector names without asking each of them. Borrows the identities.
class IdentityIndex {
public:
    explicit IdentityIndex(const std::vector<Identity>& identities);

    // Sorted. A selector without terms names everybody.
    [[nodiscard]] std::vector<IdentityId> matching(const LabelSelector& selector) const;
    [[nodiscard]] std::vector<IdentityId> named(const std::string& workload) const;

private:
    using Positions = std::vector<std::uint32_t>;
    [[nodiscard]] Positions candidates(const LabelSelector& selector) const;

    const std::vector<Identity>& identities_;
    std::unordered_map<std::string, Positions> by_key_;
    std::unordered_map<std::string, std::unordered_map<std::string, Positions>> by_label_;
    std::unordered_map<std::string, Positions> by_name_;
};

// Finds the segments that a label set belongs to without asking each of them. Borrows the segments.
class SegmentIndex {
public:
    explicit SegmentIndex(const std::vector<Segment>& segments);

    [[nodiscard]] std::vector<const Segment*> containing(const Labels& labels) const; // sorted by name

private:
    const std::vector<Segment>& segments_;
    std::unordered_map<std::string, std::vector<std::uint32_t>> by_key_; // segments that only ask for presence
    std::unordered_map<std::string, std::unordered_map<std::string, std::vector<std::uint32_t>>> by_label_;
    std::vector<std::uint32_t> unconditional_;
};

} // namespace bulkhead::policy
