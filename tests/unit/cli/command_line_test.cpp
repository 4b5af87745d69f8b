// SPDX-License-Identifier: Apache-2.0
#include "cli_session.h"

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class CommandLine : public CliSession {};

TEST_F(CommandLine, WrongUsageIsExitTwoWithNothingOnStdout)
{
    for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
             {},
             {"nonsense"},
             {"policy"},
             {"flows", "--nonsense"},
             {"flows", "--from"},
             {"flows", "--from", "a", "b"},
             {"flows", "extra"},
             {"flows", "--port", "70000"},
             {"flows", "--port", "x"},
             {"flows", "--last", "0"},
             {"flows", "--last", "-1"},
             {"flows", "-f", "--input-file", "-"},
             {"policy", "apply"},
             {"policy", "show", "x"},
             {"-o", "xml", "workload", "list"},
             {"workload", "show"},
             {"agent", "token", "create", "--for", "soon"},
             {"agent", "token", "create", "--uses", "0"},
             {"completion", "fish"},
         }) {
        const auto outcome = run(arguments);
        EXPECT_EQ(outcome.code, 2) << testing::PrintToString(arguments);
        EXPECT_THAT(outcome.out, IsEmpty()) << testing::PrintToString(arguments);
        EXPECT_FALSE(outcome.err.empty()) << testing::PrintToString(arguments);
    }
    EXPECT_EQ(admin.calls, 0);
}

TEST_F(CommandLine, HelpAndVersionGoToStdout)
{
    for (const char* flag : {"--help", "-h"}) {
        const auto outcome = run({flag});
        EXPECT_EQ(outcome.code, 0);
        EXPECT_THAT(outcome.out, HasSubstr("violations"));
        EXPECT_THAT(outcome.err, IsEmpty());
    }
    EXPECT_THAT(run({"flows", "--help"}).out, HasSubstr("--since"));
    EXPECT_THAT(run({"--version"}).out, StartsWith("bulkheadctl "));
}

TEST_F(CommandLine, GlobalOptionsStandBeforeOrBehindTheCommand)
{
    EXPECT_EQ(run({"-o", "json", "--controller", "c:1", "workload", "list"}).out, "[]\n");
    EXPECT_EQ(asked.controller, "c:1");
    EXPECT_EQ(run({"workload", "list", "--output=json", "--config", "/x"}).out, "[]\n");
    EXPECT_EQ(asked.config, "/x");
    (void)run({"agent", "status", "--local", "--socket", "/s"});
    EXPECT_EQ(asked.socket, "/s");
}

TEST_F(CommandLine, UnreachablePeerIsExitFour)
{
    unreachable = Error{ErrorKind::unreachable, "cannot reach the controller ctl:7443", "is it running?"};
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"flows"},
                                               {"workload", "list"},
                                               {"segment", "list"},
                                               {"agent", "status"},
                                               {"policy", "show"},
                                               {"status"},
                                               {"--local", "status"},
                                               {"--local", "flows"},
                                               {"agent", "token", "create"}}) {
        const auto outcome = run(arguments);
        EXPECT_EQ(outcome.code, 4) << testing::PrintToString(arguments);
        EXPECT_THAT(outcome.out, IsEmpty());
        EXPECT_THAT(outcome.err, HasSubstr("cannot reach the controller ctl:7443"));
        EXPECT_THAT(outcome.err, HasSubstr("is it running?"));
    }
}

TEST_F(CommandLine, StatusOfTheCallBecomesTheExitCode)
{
    const std::map<grpc::StatusCode, int> expected{
        {grpc::StatusCode::UNAVAILABLE, 4},         {grpc::StatusCode::DEADLINE_EXCEEDED, 4},
        {grpc::StatusCode::UNAUTHENTICATED, 5},     {grpc::StatusCode::PERMISSION_DENIED, 5},
        {grpc::StatusCode::INVALID_ARGUMENT, 2},    {grpc::StatusCode::NOT_FOUND, 1},
        {grpc::StatusCode::FAILED_PRECONDITION, 1}, {grpc::StatusCode::INTERNAL, 1}};
    for (const auto& [status, code] : expected) {
        admin.refuse = grpc::Status(status, "because of this");
        for (const std::vector<std::string>& arguments :
             std::vector<std::vector<std::string>>{{"flows"},
                                                   {"workload", "list"},
                                                   {"workload", "label", "a", "k=v"},
                                                   {"segment", "list"},
                                                   {"agent", "status"},
                                                   {"agent", "token", "create"},
                                                   {"policy", "show"},
                                                   {"status"}}) {
            const auto outcome = run(arguments);
            EXPECT_EQ(outcome.code, code) << testing::PrintToString(arguments);
            EXPECT_THAT(outcome.err, HasSubstr("because of this"));
            EXPECT_THAT(outcome.out, IsEmpty());
        }
    }
}

TEST_F(CommandLine, ErrorTextFromThePeerCannotDriveTheTerminal)
{
    admin.refuse = grpc::Status(grpc::StatusCode::INTERNAL, "\x1b[2Jgone");
    EXPECT_THAT(run({"workload", "list"}).err, testing::Not(HasSubstr("\x1b")));
}

} // namespace
} // namespace bulkhead::cli
