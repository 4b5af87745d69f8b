// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/policy/document.h"

#include <span>

namespace bulkhead::policy {

struct SourceFile {
    std::string name; // as the user wrote it; used in messages only
    std::string text;
};

// Bounds on what an attacker or a slip may make us read. Exceeding one is a Diagnostic, never an abort.
inline constexpr std::size_t max_file_bytes = 16U << 20;
inline constexpr std::size_t max_scalar_bytes = 4096;
inline constexpr int max_depth = 32;
inline constexpr std::size_t max_nodes = 1'000'000;       // YAML nodes in one file
inline constexpr std::size_t max_total_bytes = 64U << 20; // of all files together
inline constexpr std::size_t max_findings = 1000;         // listed in one file; one more says that there are others

struct ParseOutcome {
    PolicySet policy;                    // meaningful only when diagnostics is empty
    std::vector<Diagnostic> diagnostics; // every error of every file, in file and line order
    [[nodiscard]] bool ok() const { return diagnostics.empty(); }
};

// Parses, resolves and validates: pure, no I/O, no exceptions. Anchors and aliases are refused. Features of later
// versions (fqdn, expect, peer_process) are refused by name, never ignored.
[[nodiscard]] ParseOutcome parse(std::span<const SourceFile> files);

// Reads FILE|DIR... (a folder: its *.yaml and *.yml in name order, not recursive). An unreadable path, a folder
// without policy files or a file over max_file_bytes is an Error of kind invalid.
[[nodiscard]] Result<std::vector<SourceFile>> read_policy_files(std::span<const std::string> paths);

} // namespace bulkhead::policy
