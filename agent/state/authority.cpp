// SPDX-License-Identifier: Apache-2.0
#include "agent/state/authority.h"

#include "agent/state/atomic_file.h"
#include "common/tls/signature.h"
#include "common/wire/state_digest.h"

namespace bulkhead::agent {
namespace {

constexpr const char* current_name = "/ca.pem";
constexpr const char* previous_name = "/ca.previous.pem";

Status verify_by_file(const std::string& path, std::string_view digest, const std::string& signature)
{
    BULKHEAD_TRY(const auto pem, read_file_if_there(path));
    if (!pem)
        return fail(ErrorKind::failed, "{} is missing", path);
    auto verified = tls::verify_signature(*pem, wire::policy_signature_context, digest, signature);
    if (!verified && verified.error().kind != ErrorKind::refused)
        return tl::unexpected(std::move(verified).error().within(path));
    return verified;
}

} // namespace

Status verify_policy(const std::string& authority_pem, const wire::HostState& state, const std::string& signature)
{
    return tls::verify_signature(authority_pem, wire::policy_signature_context, wire::state_digest(state), signature);
}

Status verify_saved_policy(const std::string& state_dir, const wire::HostState& state, const std::string& signature)
{
    const auto digest = wire::state_digest(state);
    auto verified = verify_by_file(state_dir + current_name, digest, signature);
    if (!verified && verify_by_file(state_dir + previous_name, digest, signature))
        return {};
    return verified;
}

Status save_authority(const std::string& state_dir, const std::string& certificate_pem)
{
    const auto path = state_dir + current_name;
    // One that cannot be read has nothing to be kept for.
    if (const auto before = read_file_if_there(path); before && *before && **before != certificate_pem)
        BULKHEAD_CHECK(write_file_atomically(state_dir + previous_name, **before, 0600));
    return write_file_atomically(path, certificate_pem, 0600);
}

} // namespace bulkhead::agent
