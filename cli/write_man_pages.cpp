// SPDX-License-Identifier: Apache-2.0
//
// Part of the build: writes bulkheadctl-GROUP.1 of every command group into a folder.
#include "cli/command_tree.h"
#include "cli/man_page.h"

#include <fmt/chrono.h>

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>

namespace {

// reproducible-builds.org/specs/source-date-epoch: the date of the source, not that of the build.
std::string source_date()
{
    const char* epoch = std::getenv("SOURCE_DATE_EPOCH");
    const std::time_t seconds = epoch != nullptr ? std::strtoll(epoch, nullptr, 10) : std::time(nullptr);
    return fmt::format("{:%Y-%m-%d}", fmt::gmtime(seconds));
}

} // namespace

int main(int argc, char** argv)
{
    if (argc != 2) {
        std::cerr << "usage: write_man_pages FOLDER\n";
        return 2;
    }
    const bulkhead::cli::CommandTree tree;
    for (const auto* group :
         tree.app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); })) {
        const auto path = fmt::format("{}/bulkheadctl-{}.1", argv[1], group->get_name());
        std::ofstream file(path);
        file << bulkhead::cli::man_page(*group, source_date());
        if (!file.flush()) {
            std::cerr << "cannot write " << path << '\n';
            return 1;
        }
        std::cout << path << '\n';
    }
    return 0;
}
