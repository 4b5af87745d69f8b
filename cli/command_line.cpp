// SPDX-License-Identifier: Apache-2.0
#include "cli/command_line.h"

#include "cli/command_tree.h"

#include <cstdlib>

namespace bulkhead::cli {

int run_command_line(int argc, const char* const* argv, Surroundings surroundings)
{
    CommandTree tree;
    try {
        tree.app.parse(argc, argv);
    } catch (const CLI::Success& success) { // --help, --version
        return tree.app.exit(success, surroundings.out, surroundings.err);
    } catch (const CLI::ParseError& error) {
        tree.app.exit(error, surroundings.out, surroundings.err);
        return exit_code(ErrorKind::usage);
    }
    const auto peers = surroundings.connect(tree.globals.peers);
    Context context{surroundings.in,
                    surroundings.out,
                    surroundings.err,
                    *peers,
                    tree.globals.format,
                    tree.globals.local,
                    surroundings.out_is_terminal && std::getenv("NO_COLOR") == nullptr};
    const int code = tree.selection.action(context);
    surroundings.out.flush();
    return code;
}

} // namespace bulkhead::cli
