// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/tls/authority.h"
#include "common/tls/signature.h"
#include "common/wire/state_digest.h"

namespace bulkhead::test {

// A controller's authority that signs policies.
class SigningAuthority {
public:
    [[nodiscard]] std::string certificate() const { return pair_.certificate_pem; }
    [[nodiscard]] std::string sign(const wire::HostState& state,
                                   std::string_view context = wire::policy_signature_context) const
    {
        return *tls::Signer::create(pair_.key_pem)->sign(context, wire::state_digest(state));
    }

private:
    tls::KeyAndCertificate pair_ = *tls::make_authority(std::chrono::system_clock::now(), std::chrono::hours(1));
};

} // namespace bulkhead::test
