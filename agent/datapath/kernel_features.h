// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace bulkhead::agent {

// What the programs use where the running kernel has it, and do without elsewhere. Found out by trying, not by the
// kernel's version: distributions backport.
struct KernelFeatures {
    // Functions that the verifier proves once may take pointers. Without, it follows each call anew, which it can.
    bool pointer_arguments = false;
    // An iterator may ask for a socket's cookie. Without, sockets are given theirs by sock_diag before a walk.
    bool cookies_in_walk = false;

    [[nodiscard]] static constexpr KernelFeatures all() { return {true, true}; }
    bool operator==(const KernelFeatures&) const = default;
};

// By its own word, which a distribution's patches may have overtaken. False when it cannot be read.
[[nodiscard]] bool kernel_is_older_than(unsigned major, unsigned minor);

// All false also without the privileges to load programs.
[[nodiscard]] KernelFeatures probe_kernel_features();

} // namespace bulkhead::agent
