// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/policy/document.h"

namespace bulkhead::controller {

// What may be a host's name or a label, whoever says it. Selectors, records and the command line write labels as
// "k=v,k=v", so those characters are no part of one.
[[nodiscard]] bool valid_hostname(std::string_view name);
[[nodiscard]] bool valid_label(std::string_view key, std::string_view value);
[[nodiscard]] Status check_labels(const policy::Labels& labels);

inline constexpr std::size_t max_labels = 64;

} // namespace bulkhead::controller
