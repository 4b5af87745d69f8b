// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

namespace bulkhead::cli {

// What a packet filter may refuse: rules and maps that drop, reject or hand to a program (queue), and chains that drop
// what no rule names.
struct Refusals {
    std::size_t rules = 0, policies = 0;
    [[nodiscard]] bool any() const { return rules + policies != 0; }
};

[[nodiscard]] Refusals count_nft(const std::string& ruleset);    // nft list ruleset
[[nodiscard]] Refusals count_iptables(const std::string& saved); // iptables-save

} // namespace bulkhead::cli
