// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/wire/wire.h"

#include <string>

namespace bulkhead::agent {

// The authority of the controller, whose signature makes a policy this host's: its certificate is STATE/ca.pem. When a
// host changes to another controller, those before are kept in STATE/ca.previous.pem, the last first: until the new
// controller has sent a policy, what is saved is signed by one of them.

// Refused: the policy is not signed by it. Failed: the certificate cannot be read.
[[nodiscard]] Status verify_policy(const std::string& authority_pem, const wire::HostState& state,
                                   const std::string& signature);
// The same for what was saved, by any of them. Failed, too, when there is no ca.pem, or one of them cannot be read and
// it is by none of the others.
[[nodiscard]] Status verify_saved_policy(const std::string& state_dir, const wire::HostState& state,
                                         const std::string& signature);
[[nodiscard]] Status save_authority(const std::string& state_dir, const std::string& certificate_pem);

} // namespace bulkhead::agent
