// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace bulkhead::tls {

// Keys are ECDSA P-256, PEM. Certificates are X.509 v3, PEM. Every controller certificate carries this DNS name, which
// clients verify instead of the address that they dialled; no other certificate ever does.
inline constexpr const char* controller_name = "bulkhead-controller";

struct KeyAndRequest {
    std::string key_pem;
    std::string csr_pem;
};
[[nodiscard]] Result<KeyAndRequest> make_key_and_request(const std::string& common_name);

struct CertificateFacts {
    std::string common_name, organizational_unit; // OU is the role: "agent", "admin", "controller", "ca"
    std::chrono::system_clock::time_point not_before, not_after;
};
[[nodiscard]] Result<CertificateFacts> inspect_certificate(const std::string& pem);

// SHA-256 of the DER form, lower-case hex.
[[nodiscard]] Result<std::string> certificate_fingerprint(const std::string& pem);

// What `bulkheadctl agent token create` prints: "bulkhead-join-1.<secret, base64url>.<CA fingerprint, hex>".
struct JoinToken {
    std::string secret;
    std::string ca_fingerprint;
};
[[nodiscard]] std::string encode_join_token(const JoinToken& token);
[[nodiscard]] Result<JoinToken> decode_join_token(const std::string& text);

// Connects once without trust, takes the CA certificate from the peer's chain and returns it only if its fingerprint is
// the expected one. Errors: unreachable; refused when the fingerprint differs ("not the controller that made this
// token").
[[nodiscard]] Result<std::string> fetch_ca(const std::string& host_port, const std::string& expected_fingerprint,
                                           std::chrono::milliseconds timeout);

// Makes every TLS handshake of gRPC in this process TLS 1.3 or none. Call first thing in main().
void require_tls13();

} // namespace bulkhead::tls
