// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/document.h"

#include <string_view>
#include <unordered_map>
#include <vector>

namespace bulkhead::policy {

// Collects what parse() finds, at most max_findings a file.
class Findings {
public:
    void add(SourceRef where, std::string message, std::string mend = {});
    // False when the file's list is full: work that only makes a message nicer can be saved.
    [[nodiscard]] bool listens(const SourceRef& where) const;
    // In the order of `files`, then by line and column.
    [[nodiscard]] std::vector<Diagnostic> sorted(const std::vector<std::shared_ptr<const std::string>>& files) &&;

private:
    std::vector<Diagnostic> found_;
    std::unordered_map<const std::string*, std::size_t> counts_;
};

// "did you mean 'selector'?" when some candidate is a slip of the finger away, else "one of: a, b, c" while the list is
// short, else empty.
[[nodiscard]] std::string suggest(std::string_view written, const std::vector<std::string_view>& candidates);

// For messages: cut where it is too long for a line.
[[nodiscard]] std::string shown(std::string_view text);

} // namespace bulkhead::policy
