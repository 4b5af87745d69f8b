// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls.h"

#include <cstdlib>

namespace bulkhead::tls {

// gRPC 1.51 has no public setting for the lowest TLS version: it always sets TLS 1.2 on its SSL_CTX, after any OpenSSL
// configuration file has had its say. What it does let us choose is the list of TLS 1.2 cipher suites
// (SSL_CTX_set_cipher_list; TLS 1.3 has a list of its own that this one does not govern, RFC 8446 appendix B.4). So we
// leave one TLS 1.2 suite in it that can never be negotiated: a pre-shared-key suite, in a library that never sets a
// PSK callback. OpenSSL then offers (client) and selects (server) no TLS 1.2 suite at all. Read by gRPC once, when the
// first credentials are made.
void require_tls13()
{
    ::setenv("GRPC_SSL_CIPHER_SUITES", "ECDHE-PSK-AES256-CBC-SHA384", 1);
}

} // namespace bulkhead::tls
