// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <memory>
#include <string>
#include <string_view>

namespace bulkhead::tls {

// Signatures by a key that also signs certificates: ECDSA over the SHA-256 of `context`, a zero byte and `message`. A
// context is text, so what is signed never begins like the DER of a certificate (0x30), nor like that of another
// context.

// Holds the key ready: reading it costs some fifteen signatures. Thread-safe.
class Signer {
public:
    [[nodiscard]] static Result<Signer> create(const std::string& key_pem);
    Signer(Signer&&) noexcept;
    Signer& operator=(Signer&&) noexcept;
    ~Signer();

    // DER (RFC 3279, section 2.2.3). Another one at each call.
    [[nodiscard]] Result<std::string> sign(std::string_view context, std::string_view message) const;

private:
    struct Held;
    explicit Signer(std::unique_ptr<Held> held);
    std::unique_ptr<Held> held_;
};

// Refused: it is not by the key of that certificate over that message. Failed: the certificate cannot be read. The
// times of the certificate do not matter.
[[nodiscard]] Status verify_signature(const std::string& certificate_pem, std::string_view context,
                                      std::string_view message, std::string_view signature);

} // namespace bulkhead::tls
