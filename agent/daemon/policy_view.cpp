// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/policy_view.h"

#include "agent/daemon/failsafe.h"

namespace bulkhead::agent {

Result<std::shared_ptr<PolicyView>> build_view(const wire::HostState& state,
                                               const std::vector<policy::HostRule>& failsafes)
{
    auto view = std::make_shared<PolicyView>();
    view->policy_version = state.policy_version;
    view->policy = with_failsafes(state.policy, failsafes);
    BULKHEAD_TRY(view->active, policy::lower(view->policy, policy::Plane::active, state.addresses));
    BULKHEAD_TRY(view->shadow, policy::lower(view->policy, policy::Plane::shadow, state.addresses));
    view->addresses = state.addresses;
    view->identities = state.identities;
    return view;
}

bool same_meaning(const wire::HostState& a, const wire::HostState& b)
{
    return a.policy == b.policy && a.addresses == b.addresses && a.identities == b.identities;
}

} // namespace bulkhead::agent
