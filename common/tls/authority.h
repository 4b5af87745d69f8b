// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <chrono>
#include <string>
#include <vector>

namespace bulkhead::tls {

// The certificate authority's side. Pure functions of their arguments and the random number generator.

struct KeyAndCertificate {
    std::string key_pem;
    std::string certificate_pem;
};

// What a certificate says, chosen by the signer alone. Of a request only the public key is used, after its signature
// has shown that the sender holds the private half.
struct CertificateGrant {
    std::string common_name;
    std::string role;                   // "agent", "admin", "controller"
    std::vector<std::string> dns_names; // for role "controller" only
    std::vector<std::string> ip_names;
    std::chrono::system_clock::time_point now;
    std::chrono::seconds lifetime{0};
};

// Certificates begin this long before `now`, so that a host whose clock is a little behind can use them at once.
inline constexpr std::chrono::minutes clock_skew{5};

[[nodiscard]] Result<KeyAndCertificate> make_authority(std::chrono::system_clock::time_point now,
                                                       std::chrono::seconds lifetime);

// Fails (refused) when the request is malformed, its self-signature does not verify or its key is not EC P-256.
// A certificate never outlives the authority's own.
[[nodiscard]] Result<std::string> sign_request(const KeyAndCertificate& authority, const std::string& csr_pem,
                                               const CertificateGrant& grant);

// A new key and its certificate, for the controller's own and the first admin's.
[[nodiscard]] Result<KeyAndCertificate> issue(const KeyAndCertificate& authority, const CertificateGrant& grant);

// A certificate for a key that the caller holds already.
[[nodiscard]] Result<std::string> issue_for_key(const KeyAndCertificate& authority, const std::string& key_pem,
                                                const CertificateGrant& grant);

// True when the key belongs to the certificate: files of a half-finished write do not match.
[[nodiscard]] bool key_matches(const KeyAndCertificate& pair);
[[nodiscard]] bool issued_by(const std::string& certificate_pem, const std::string& authority_pem);

} // namespace bulkhead::tls
