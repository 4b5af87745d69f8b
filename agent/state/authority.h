// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/wire/wire.h"

#include <string>

namespace bulkhead::agent {

// The authority of the controller, whose signature makes a policy this host's: its certificate is STATE/ca.pem. When a
// host changes to another controller, the one before is kept as STATE/ca.previous.pem: until the new controller has
// sent a policy, what is saved is signed by the other.

// Refused: the policy is not signed by it. Failed: the certificate cannot be read.
[[nodiscard]] Status verify_policy(const std::string& authority_pem, const wire::HostState& state,
                                   const std::string& signature);
// The same for what was saved, by either authority. Failed also when there is no ca.pem.
[[nodiscard]] Status verify_saved_policy(const std::string& state_dir, const wire::HostState& state,
                                         const std::string& signature);
[[nodiscard]] Status save_authority(const std::string& state_dir, const std::string& certificate_pem);

} // namespace bulkhead::agent
