// SPDX-License-Identifier: Apache-2.0
#include "controller/api/caller.h"

#include "common/core/log.h"
#include "common/tls/tls.h"

namespace bulkhead::controller {
namespace {

Checked<Caller> caller_of(const grpc::ServerContextBase& context)
{
    const auto auth = context.auth_context();
    const auto pem = auth ? auth->FindPropertyValues("x509_pem_cert") : std::vector<grpc::string_ref>();
    if (pem.empty() || !auth->IsPeerAuthenticated())
        return tl::unexpected(grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "a client certificate is needed"));
    const auto facts = tls::inspect_certificate(std::string(pem.front().data(), pem.front().size()));
    if (!facts || facts->common_name.empty() || facts->organizational_unit.empty())
        return tl::unexpected(grpc::Status(grpc::StatusCode::UNAUTHENTICATED, "the client certificate names nobody"));
    return Caller{facts->common_name, facts->organizational_unit};
}

Checked<std::string> require_role(const grpc::ServerContextBase& context, std::string_view role)
{
    auto caller = caller_of(context);
    if (!caller)
        return tl::unexpected(caller.error());
    if (caller->role != role) {
        log_warning("{} '{}' asked for something of role {}", caller->role, caller->name, role);
        return tl::unexpected(
            grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                         fmt::format("this needs a certificate of role {}, not {}", role, caller->role)));
    }
    return std::move(caller->name);
}

} // namespace

Checked<std::string> require_admin(const grpc::ServerContextBase& context)
{
    return require_role(context, "admin");
}

Checked<std::string> require_agent(const grpc::ServerContextBase& context, const Inventory& inventory)
{
    auto id = require_role(context, "agent");
    if (id && !inventory.workload_of(*id))
        return tl::unexpected(grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                                           "this agent's certificate is no longer accepted: enrol the host again"));
    return id;
}

grpc::Status to_grpc(const Error& error)
{
    const auto code = [&error] {
        switch (error.kind) {
        case ErrorKind::failed:
        case ErrorKind::unreachable: return grpc::StatusCode::UNAVAILABLE;
        case ErrorKind::usage:
        case ErrorKind::invalid: return grpc::StatusCode::INVALID_ARGUMENT;
        case ErrorKind::refused: return grpc::StatusCode::PERMISSION_DENIED;
        }
        return grpc::StatusCode::UNKNOWN;
    }();
    return {code, error.mend.empty() ? error.message : fmt::format("{} ({})", error.message, error.mend)};
}

} // namespace bulkhead::controller
