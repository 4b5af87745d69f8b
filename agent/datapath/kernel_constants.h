// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bulkhead::agent {

// The bits of the running kernel's inet_sock.inet_flags that let a socket bind to addresses that are not the host's.
// CO-RE relocates enumerators of named enums only, and this one has no name. 0: not in the kernel's BTF (before 6.6).
struct ForeignSourceBits {
    std::uint64_t any = 0;
    std::uint64_t transparent = 0; // the one that takes a privilege
};
ForeignSourceBits socket_bits_for_foreign_sources();

} // namespace bulkhead::agent
