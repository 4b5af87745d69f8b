// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace bulkhead::agent {

// Of the running kernel, by its BTF, what CO-RE does not relocate.
struct KernelConstants {
    // The bits of inet_sock.inet_flags that let a socket bind to addresses that are not the host's: enumerators of an
    // enum without a name. 0: not there (before 6.6).
    std::uint64_t foreign_source_bits = 0;
    std::uint64_t transparent_bit = 0; // the one of them that takes a privilege
    // Between two variables of a CPU, in bytes; 0: not known (machines that count it elsewhere than x86).
    std::int64_t preempt_count_from_runqueues = 0;
    // Whether the programs can tell a question to sock_diag(7) from a packet (bpf/context.h).
    bool questions_are_told_apart = false;
};
[[nodiscard]] KernelConstants find_kernel_constants();

} // namespace bulkhead::agent
