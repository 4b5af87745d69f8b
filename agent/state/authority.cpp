// SPDX-License-Identifier: Apache-2.0
#include "agent/state/authority.h"

#include "agent/state/atomic_file.h"
#include "common/tls/signature.h"
#include "common/tls/tls.h"
#include "common/wire/state_digest.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace bulkhead::agent {
namespace {

constexpr const char* current_name = "/ca.pem";
constexpr const char* previous_name = "/ca.previous.pem";
constexpr std::size_t kept = 8;
constexpr std::string_view begins = "-----BEGIN CERTIFICATE-----";
constexpr std::string_view ends = "-----END CERTIFICATE-----";
constexpr const char* unreadable = "(one that could not be read)\n";

struct Certificates {
    std::vector<std::string> readable; // one PEM each
    bool and_others = false;           // what is no certificate: one may have been there
};

Certificates certificates_in(std::string_view pem)
{
    Certificates found;
    for (;;) {
        const auto from = pem.find(begins);
        const auto to = pem.find(ends, from == std::string_view::npos ? 0 : from);
        const auto rest = pem.substr(0, from);
        found.and_others |= rest.find_first_not_of(" \t\r\n") != std::string_view::npos;
        if (from == std::string_view::npos)
            return found;
        if (to == std::string_view::npos) {
            found.and_others = true;
            return found;
        }
        std::string one(pem.substr(from, to + ends.size() - from));
        one += '\n';
        if (tls::inspect_certificate(one))
            found.readable.push_back(std::move(one));
        else
            found.and_others = true;
        pem.remove_prefix(to + ends.size());
    }
}

Status verify_by(const std::string& certificate, std::string_view digest, const std::string& signature)
{
    return tls::verify_signature(certificate, wire::policy_signature_context, digest, signature);
}

Status verify_by_current(const std::string& path, std::string_view digest, const std::string& signature)
{
    BULKHEAD_TRY(const auto pem, read_file_if_there(path));
    if (!pem)
        return fail(ErrorKind::failed, "{} is missing", path);
    auto verified = verify_by(*pem, digest, signature);
    if (!verified && verified.error().kind != ErrorKind::refused)
        return tl::unexpected(std::move(verified).error().within(path));
    return verified;
}

// Refused only where all that were ever there can be read, and it is by none of them.
Status verify_by_previous(const std::string& path, std::string_view digest, const std::string& signature)
{
    BULKHEAD_TRY(const auto pem, read_file_if_there(path));
    const auto previous = certificates_in(pem ? std::string_view(*pem) : std::string_view());
    for (const auto& certificate : previous.readable)
        if (verify_by(certificate, digest, signature))
            return {};
    if (previous.and_others)
        return fail(ErrorKind::failed, "{} has something else than certificates", path);
    return fail(ErrorKind::refused, "the signature does not match");
}

} // namespace

Status verify_policy(const std::string& authority_pem, const wire::HostState& state, const std::string& signature)
{
    return tls::verify_signature(authority_pem, wire::policy_signature_context, wire::state_digest(state), signature);
}

Status verify_saved_policy(const std::string& state_dir, const wire::HostState& state, const std::string& signature)
{
    const auto digest = wire::state_digest(state);
    auto verified = verify_by_current(state_dir + current_name, digest, signature);
    if (verified)
        return verified;
    auto by_previous = verify_by_previous(state_dir + previous_name, digest, signature);
    if (by_previous || verified.error().kind == ErrorKind::refused)
        return by_previous;
    return verified;
}

Status save_authority(const std::string& state_dir, const std::string& certificate_pem)
{
    const auto path = state_dir + current_name;
    const auto before = read_file_if_there(path);
    if (before && *before && **before != certificate_pem) {
        const auto kept_before = read_file_if_there(state_dir + previous_name);
        auto earlier = certificates_in(**before);
        const auto still_earlier =
            certificates_in(kept_before && *kept_before ? std::string_view(**kept_before) : std::string_view());
        for (const auto& one : still_earlier.readable)
            if (std::find(earlier.readable.begin(), earlier.readable.end(), one) == earlier.readable.end())
                earlier.readable.push_back(one);
        earlier.readable.resize(std::min(earlier.readable.size(), kept));
        std::string text;
        for (const auto& one : earlier.readable)
            text += one;
        if (earlier.and_others || still_earlier.and_others)
            text += unreadable;
        BULKHEAD_CHECK(write_file_atomically(state_dir + previous_name, text, 0600));
    }
    return write_file_atomically(path, certificate_pem, 0600);
}

} // namespace bulkhead::agent
