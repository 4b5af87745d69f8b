// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"
#include "common/core/result.h"
#include "common/tls/tls.h"

#include <csignal>
#include <cstdlib>
#include <iostream>
#include <poll.h>
#include <unistd.h>

namespace {

// `bulkheadctl flows | head`: the reader has what it wanted.
bool reader_went()
{
    pollfd out{STDOUT_FILENO, POLLOUT, 0};
    return ::poll(&out, 1, 0) == 1 && (out.revents & (POLLERR | POLLHUP)) != 0;
}

} // namespace

int main(int argc, char** argv)
{
    // gRPC would write its own diagnostics between ours; GRPC_VERBOSITY=DEBUG still brings them.
    ::setenv("GRPC_VERBOSITY", "NONE", 0);
    bulkhead::tls::require_tls13();
    std::signal(SIGPIPE, SIG_IGN); // a failed write is noticed by the stream
    const int code =
        bulkhead::cli::run_command_line(argc, argv, {std::cin, std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1});
    if (code == 0 && !std::cout.flush() && !reader_went()) {
        std::cerr << "bulkheadctl: error: cannot write the output\n";
        return bulkhead::exit_code(bulkhead::ErrorKind::failed);
    }
    return code;
}
