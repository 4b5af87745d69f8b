// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/declared.h"
#include "common/policy/findings.h"

namespace bulkhead::policy {

// Gives names their meaning and finds what only shows across documents: unknown and duplicate names, contradictions.
// The result is meaningful when nothing was found.
[[nodiscard]] PolicySet resolve(Declared declared, Findings& findings);

} // namespace bulkhead::policy
