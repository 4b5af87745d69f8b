// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller/api/services.h"

namespace bulkhead::controller {

// The admin's calls about the policy; `admin` is who calls.
[[nodiscard]] grpc::Status apply_policy(const ApiParts& parts, const std::string& admin,
                                        const v1::ApplyPolicyRequest& request, v1::ApplyPolicyReply& reply);
[[nodiscard]] grpc::Status confirm_policy(const ApiParts& parts, const std::string& admin,
                                          const v1::ConfirmPolicyRequest& request, v1::ApplyPolicyReply& reply);
[[nodiscard]] grpc::Status roll_back_policy(const ApiParts& parts, const std::string& admin,
                                            const v1::RollbackPolicyRequest& request, v1::ApplyPolicyReply& reply);
[[nodiscard]] grpc::Status list_policies(const ApiParts& parts, v1::PolicyList& reply);
[[nodiscard]] grpc::Status get_policy(const ApiParts& parts, const v1::GetPolicyRequest& request,
                                      v1::GetPolicyReply& reply);

// Of an act that was refused for what it asks, not for who asks it: ABORTED. Else like to_grpc().
[[nodiscard]] grpc::Status refused_act(const Error& error);

inline constexpr std::uint32_t max_wait_ms = 60'000;

} // namespace bulkhead::controller
