// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {

int report(Context& context, const Error& error)
{
    fmt::print(context.err, "bulkheadctl: error: {}\n", printable(error.message));
    if (!error.mend.empty())
        fmt::print(context.err, "  mend: {}\n", printable(error.mend));
    return exit_code(error.kind);
}

} // namespace bulkhead::cli
