// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/host_policy.h"

#include <string>
#include <vector>

namespace bulkhead::policy {

// As a document would write them: "tcp/443", "udp/8000-8100", "icmp/echo", "proto/gre"; "any" for all protocols.
[[nodiscard]] std::vector<std::string> service_words(const std::vector<ServiceAtom>& services);
[[nodiscard]] std::string describe(const std::vector<ServiceAtom>& services); // the words, joined by ", "
[[nodiscard]] std::string describe(const ProcessCondition& condition);
[[nodiscard]] std::string describe(const Sessions& sessions); // as the document writes it

// What one host enforces, in words: one line for each default and rule. For people and for golden tests.
[[nodiscard]] std::vector<std::string> describe(const HostPolicy& policy);

} // namespace bulkhead::policy
