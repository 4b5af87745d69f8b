// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <bpf/libbpf.h>

namespace bulkhead::agent {

// Make the maps of an object that is open and not loaded, besides those that it was given (bpf_map__reuse_fd), as
// libbpf would when it loads them. It would do so only together with the programs; ours are loaded by several objects
// at once, and need the maps before.
[[nodiscard]] Status make_maps(bpf_object* object);
// Those of its variables. Load-time constants are what they are now, and fixed from then on.
[[nodiscard]] Status make_variables(bpf_object* object);

} // namespace bulkhead::agent
