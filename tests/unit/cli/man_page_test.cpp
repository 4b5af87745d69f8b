// SPDX-License-Identifier: Apache-2.0
#include "cli/man_page.h"

#include "cli/command_tree.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string page_of(const std::string& group)
{
    const CommandTree tree;
    return man_page(*tree.app.get_subcommand(group), "2026-11-21");
}

std::string in_roff(std::string text)
{
    for (std::size_t at = 0; (at = text.find('-', at)) != std::string::npos; at += 2)
        text.insert(at, "\\");
    return text;
}

void expect_described(const CLI::App& command, const std::string& path, const std::string& page)
{
    EXPECT_THAT(page, HasSubstr(in_roff(path)));
    for (const auto* option : command.get_options()) {
        if (option == command.get_help_ptr())
            continue;
        for (const auto& name : option->get_lnames())
            EXPECT_THAT(page, HasSubstr("\\fB" + in_roff("--" + name) + "\\fR")) << path;
    }
    for (const auto* child : command.get_subcommands([](const CLI::App*) { return true; }))
        expect_described(*child, path + " " + child->get_name(), page);
}

TEST(ManPage, DescribesEveryCommandAndOptionOfItsGroup)
{
    const CommandTree tree;
    const auto groups = tree.app.get_subcommands([](const CLI::App*) { return true; });
    ASSERT_GT(groups.size(), 5U);
    for (const auto* group : groups)
        expect_described(*group, "bulkheadctl " + group->get_name(), man_page(*group, "2026-11-21"));
}

TEST(ManPage, SaysWhatIsRequiredAndWhatMayBeRepeated)
{
    const auto page = page_of("policy");
    EXPECT_THAT(page, HasSubstr("\\fBbulkheadctl policy validate\\fR [\\fIOPTION\\fR]... \\fIFILE|DIR\\fR...\n"));
    EXPECT_THAT(page, HasSubstr("\\fBbulkheadctl policy confirm\\fR [\\fIOPTION\\fR]... [\\fIVERSION\\fR]\n"));
}

TEST(ManPage, LeavesExitCodesToTheMainPage)
{
    EXPECT_THAT(page_of("policy"), Not(HasSubstr("Exit codes")));
    EXPECT_THAT(page_of("flows"), HasSubstr("Different filters: and.")); // a footer of its own stays
}

TEST(ManPage, BeginsNoLineWithARequestThatIsNone)
{
    const auto page = page_of("flows");
    for (std::size_t at = page.find("\n."); at != std::string::npos; at = page.find("\n.", at + 1)) {
        const auto request = page.substr(at + 2, 2);
        EXPECT_TRUE(request == "SH" || request == "SS" || request == "TP" || request == "PP" || request == "br" ||
                    request == "nh" || request == "ad")
            << page.substr(at + 1, 40);
    }
}

} // namespace
} // namespace bulkhead::cli
