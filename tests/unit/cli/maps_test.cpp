// SPDX-License-Identifier: Apache-2.0
#include "cli_session.h"

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class MapsCommand : public CliSession {
protected:
    MapsCommand()
    {
        agent.maps.set_policy_version(3);
        agent.maps.set_generation(9);
        for (const char* name : {"rules", "listeners"}) {
            auto& table = *agent.maps.add_tables();
            table.set_name(name);
            table.set_entries(5);
            table.add_lines(std::string(name) + " one");
        }
    }
};

TEST_F(MapsCommand, ShowsTheTablesAndHowMuchIsLeftOut)
{
    const auto outcome = run({"--local", "maps", "--limit", "1"});
    EXPECT_EQ(outcome.code, 0);
    EXPECT_EQ(agent.maps_asked.limit(), 1U);
    EXPECT_THAT(outcome.out, HasSubstr("version 3, generation 9"));
    EXPECT_THAT(outcome.out, HasSubstr("listeners (5)"));
    EXPECT_THAT(outcome.out, HasSubstr("... and 4 more"));
}

TEST_F(MapsCommand, IsBoundedByDefault)
{
    (void)run({"--local", "maps"});
    EXPECT_EQ(agent.maps_asked.limit(), 20U);
}

TEST_F(MapsCommand, ShowsOnlyTheTablesThatWereNamed)
{
    EXPECT_THAT(run({"--local", "maps", "rules"}).out, Not(HasSubstr("listeners")));
    const auto json = run({"--local", "maps", "rules", "-o", "json"}).json();
    EXPECT_EQ(json["tables"].size(), 1U);
    EXPECT_EQ(json["tables"][0]["lines"][0], "rules one");
    EXPECT_EQ(run({"--local", "maps", "roules"}).code, 2);
}

TEST_F(MapsCommand, SaysThatTheKernelGoesOnWhenTheAgentIsDead)
{
    unreachable = Error{ErrorKind::unreachable, "cannot reach the agent", ""};
    const auto outcome = run({"--local", "maps"});
    EXPECT_EQ(outcome.code, 4);
    EXPECT_THAT(outcome.err, HasSubstr("goes on enforcing"));
}

TEST_F(MapsCommand, IsOfThisHostOnly)
{
    EXPECT_EQ(run({"maps"}).code, 2);
}

} // namespace
} // namespace bulkhead::cli
