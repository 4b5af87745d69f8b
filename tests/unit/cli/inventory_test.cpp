// SPDX-License-Identifier: Apache-2.0
#include "cli_session.h"
#include "common/wire/wire.h"

namespace bulkhead::cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class Inventory : public CliSession {
protected:
    Inventory()
    {
        auto& workload = *admin.workloads.add_workloads();
        workload.set_name("db-1");
        (*workload.mutable_labels())["role"] = "db";
        (*workload.mutable_labels())["app"] = "shop";
        (*workload.mutable_label_sources())["role"] = "token";
        workload.add_addresses(wire::to_wire(*IpAddress::parse("10.0.0.3")));
        workload.set_has_agent(true);
        workload.set_connected(true);
        workload.add_segments("shop-db");

        auto& segment = *admin.segments.add_segments();
        segment.set_name("shop-db");
        segment.set_mode("enforce");
        segment.set_inbound("deny");
        segment.set_outbound("allow");
        segment.set_selector("app=shop,role=db");
        segment.set_rules(1);
        segment.add_workloads("db-1");
        segment.add_rule()->set_id("api-to-db");
    }
};

TEST_F(Inventory, WorkloadsAsTableAndDocument)
{
    const auto table = run({"workload", "list"}).out;
    EXPECT_THAT(table, ContainsRegex("db-1 +connected +10.0.0.3 +shop-db +app=shop,role=db"));
    const auto json = run({"workload", "list", "-o", "json"}).json();
    EXPECT_EQ(json[0]["labels"]["app"], "shop");
    EXPECT_EQ(json[0]["addresses"][0], "10.0.0.3");
}

TEST_F(Inventory, OneWorkloadSaysWhereItsLabelsComeFrom)
{
    EXPECT_THAT(run({"workload", "show", "db-1"}).out, HasSubstr("role=db  (from token)"));
    const auto missing = run({"workload", "show", "db-2"});
    EXPECT_EQ(missing.code, 1);
    EXPECT_THAT(missing.err, HasSubstr("workload list"));
}

TEST_F(Inventory, LabelsAreSetAndTakenAway)
{
    EXPECT_EQ(run({"workload", "label", "db-1", "env=prod", "url=a=b", "old-"}).code, 0);
    EXPECT_EQ(admin.labelled.name(), "db-1");
    EXPECT_EQ(admin.labelled.set().at("env"), "prod");
    EXPECT_EQ(admin.labelled.set().at("url"), "a=b");
    EXPECT_THAT(admin.labelled.remove(), testing::ElementsAre("old"));
    const auto before = admin.calls;
    for (const char* bad : {"env", "=x", "-"})
        EXPECT_EQ(run({"workload", "label", "db-1", bad}).code, 2) << bad;
    EXPECT_EQ(admin.calls, before);
}

TEST_F(Inventory, SegmentsAsTableAndDocument)
{
    EXPECT_THAT(run({"segment", "list"}).out, ContainsRegex("shop-db +enforce +deny +allow"));
    EXPECT_THAT(run({"segment", "show", "shop-db"}).out, HasSubstr("api-to-db"));
    EXPECT_EQ(run({"segment", "show", "shop-db", "-o", "json"}).json()["rules"][0]["id"], "api-to-db");
    EXPECT_EQ(run({"segment", "show", "nobody"}).code, 1);
}

TEST_F(Inventory, NothingYetSaysWhatToDo)
{
    admin.workloads.Clear();
    admin.segments.Clear();
    EXPECT_THAT(run({"workload", "list"}).out, HasSubstr("token create"));
    EXPECT_THAT(run({"segment", "list"}).out, HasSubstr("policy apply"));
    EXPECT_EQ(run({"workload", "list", "-o", "json"}).out, "[]\n");
}

TEST_F(Inventory, LabelsCannotDriveTheTerminal)
{
    (*admin.workloads.mutable_workloads(0)->mutable_labels())["x"] = "\x1b[2J\xc2\x9b";
    for (const char* format : {"table", "json", "yaml"}) {
        const auto out = run({"workload", "list", "-o", format}).out;
        EXPECT_THAT(out, Not(HasSubstr("\x1b"))) << format;
        EXPECT_THAT(out, Not(HasSubstr("\xc2\x9b"))) << format;
    }
    EXPECT_EQ(run({"workload", "list", "-o", "json"}).json()[0]["labels"]["x"], "\x1b[2J\xc2\x9b") << "nothing is lost";
}

} // namespace
} // namespace bulkhead::cli
