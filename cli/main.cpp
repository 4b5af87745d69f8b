// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"
#include "common/tls/tls.h"

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <unistd.h>

int main(int argc, char** argv)
{
    // gRPC would write its own diagnostics between ours; GRPC_VERBOSITY=DEBUG still brings them.
    ::setenv("GRPC_VERBOSITY", "NONE", 0);
    bulkhead::tls::require_tls13();
    // `bulkheadctl flows | head` ends quietly: writes fail and the stream says so.
    std::signal(SIGPIPE, SIG_IGN);
    return bulkhead::cli::run_command_line(argc, argv, {std::cin, std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1});
}
