// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/declared.h"
#include "common/policy/findings.h"

#include <optional>

namespace bulkhead::policy {

// Names that `services:` documents define, expanded.
using ServiceNames = std::map<std::string, std::vector<ServiceAtom>>;

// What a word means: a name of `defined` (may be nullptr), else a known service, else a word of the language:
// `any`, `tcp/PORT[-PORT]`, `udp/...`, `icmp[/TYPE]`, `icmpv6[/TYPE]`, `proto/NUMBER-OR-NAME`.
// Empty after a finding.
[[nodiscard]] std::vector<ServiceAtom> resolve_service(const ServiceWord& word, const ServiceNames* defined,
                                                       Findings& findings);

} // namespace bulkhead::policy
