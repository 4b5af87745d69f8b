// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command.h"

#include <string>
#include <vector>

namespace bulkhead::cli {

// workload quarantine and release; with --local of this host.
void add_quarantine(CLI::App& workload, Selection& selection);

// "by alice since TIME until TIME: reason".
[[nodiscard]] std::string quarantine_text(const v1::Quarantine& quarantine);
[[nodiscard]] Json quarantine_document(const v1::Quarantine& quarantine);

// Of a workload: one word for a list, a line for each side that holds it, a document or null.
[[nodiscard]] std::string quarantine_word(const v1::WorkloadInfo& workload);
[[nodiscard]] std::vector<std::string> quarantine_texts(const v1::WorkloadInfo& workload);
[[nodiscard]] Json quarantine_document(const v1::WorkloadInfo& workload);

} // namespace bulkhead::cli
