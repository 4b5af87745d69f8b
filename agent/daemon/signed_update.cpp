// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/signed_update.h"

#include "agent/state/authority.h"

namespace bulkhead::agent {

Result<wire::HostState> apply_signed_update(const wire::HostState& held, const v1::PolicyUpdate& update,
                                            const std::string& authority_pem)
{
    if (update.signature().empty())
        return fail(ErrorKind::refused,
                    "policy version {} is not signed (mend: the controller must be of this agent's version or newer)",
                    update.policy_version());
    BULKHEAD_TRY(auto next, wire::apply_update(held, update));
    const auto verified = verify_policy(authority_pem, next, update.signature());
    if (verified)
        return next;
    if (verified.error().kind != ErrorKind::refused) // ours is the fault, and everything would not mend it
        return fail(ErrorKind::refused, "the signature of policy version {} cannot be verified: {}",
                    update.policy_version(), verified.error().message);
    if (!update.snapshot())
        return fail(ErrorKind::failed, "need snapshot: the signature of policy version {} is not of what it leads to",
                    update.policy_version());
    return fail(ErrorKind::refused, "policy version {} is not signed by the authority of this host's controller",
                update.policy_version());
}

} // namespace bulkhead::agent
