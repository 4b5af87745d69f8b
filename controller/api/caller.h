// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "controller/inventory/inventory.h"

#include <grpcpp/grpcpp.h>

#include <string>

namespace bulkhead::controller {

// Who a verified client certificate says the caller is.
struct Caller {
    std::string name; // CN
    std::string role; // OU
};

// What a handler does first: the caller, or the status to answer with.
template <typename T>
using Checked = tl::expected<T, grpc::Status>;

[[nodiscard]] Checked<std::string> require_admin(const grpc::ServerContextBase& context); // the admin's name
// The agent's id, of an agent that is enrolled and not revoked.
[[nodiscard]] Checked<std::string> require_agent(const grpc::ServerContextBase& context, const Inventory& inventory);

[[nodiscard]] grpc::Status to_grpc(const Error& error);

} // namespace bulkhead::controller
