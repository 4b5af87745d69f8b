// SPDX-License-Identifier: Apache-2.0
#include "cli/commands/policy_files.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics, Context& context)
{
    for (const auto& diagnostic : diagnostics)
        fmt::print(context.err, "{}\n", printable_text(diagnostic.to_string()));
    fmt::print(context.err, "bulkheadctl: {} error{}; nothing was changed\n", diagnostics.size(),
               diagnostics.size() == 1 ? "" : "s");
}

} // namespace

tl::expected<CheckedFiles, int> read_checked(const std::vector<std::string>& paths, Context& context)
{
    auto files = policy::read_policy_files(paths);
    if (!files)
        return tl::unexpected(report(context, files.error()));
    auto outcome = policy::parse(*files);
    if (!outcome.ok()) {
        print_diagnostics(outcome.diagnostics, context);
        return tl::unexpected(exit_code(ErrorKind::invalid));
    }
    return CheckedFiles{std::move(*files), std::move(outcome.policy)};
}

} // namespace bulkhead::cli
