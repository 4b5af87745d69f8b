// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/document.h"

#include <span>
#include <string_view>

namespace bulkhead::policy {

struct KnownService {
    std::string_view name;
    std::vector<ServiceAtom> atoms;
};

// Names that need no `services:` entry: a selection of IANA's registry and the names that admins use for the same.
// Sorted. The table is ours, not /etc/services, so that a policy means the same on every machine. docs/policy.md lists
// it.
[[nodiscard]] std::span<const KnownService> known_services();

// nullptr: not known.
[[nodiscard]] const KnownService* find_known_service(std::string_view name);

} // namespace bulkhead::policy
