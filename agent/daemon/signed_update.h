// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/wire/wire.h"

namespace bulkhead::agent {

// The state that an update of the controller leads to, signed by its authority. Errors are those of
// wire::apply_update(), and: refused, when it is not signed, or what it leads to is not what was signed. After a delta
// that is failed ("need snapshot"): this side's base may be another one than the controller's.
[[nodiscard]] Result<wire::HostState> apply_signed_update(const wire::HostState& held, const v1::PolicyUpdate& update,
                                                          const std::string& authority_pem);

} // namespace bulkhead::agent
