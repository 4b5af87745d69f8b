// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace bulkhead::agent {

// What libbpf says goes to the debug log from now on; its own way is standard error.
void log_libbpf_messages();

// While it lives, what libbpf warns of on this thread is also kept here. They nest; the innermost gets it.
class LibbpfWarnings {
public:
    LibbpfWarnings();
    ~LibbpfWarnings();
    LibbpfWarnings(const LibbpfWarnings&) = delete;
    LibbpfWarnings& operator=(const LibbpfWarnings&) = delete;

    // In one line: which program or map it was about, and the verifier's reason if it gave one. May be empty.
    [[nodiscard]] std::string summary() const;

    void add(std::string_view message);

private:
    std::string first_, reason_;
    LibbpfWarnings* before_;
};

// The line of a verifier's log that says why, its last before the statistics; empty when there is none.
[[nodiscard]] std::string_view reason_in_verifier_log(std::string_view message);

} // namespace bulkhead::agent
