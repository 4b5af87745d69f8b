// SPDX-License-Identifier: Apache-2.0
#include "controller/inventory/inventory.h"
#include "controller/store/audit.h"
#include "controller/store/sqlite.h"
#include "tests/unit/controller/running_controller.h"

namespace bulkhead::controller {
namespace {

class InventoryTest : public testing::Test {
protected:
    void SetUp() override
    {
        auto opened = open_sqlite({dir.file("test.db"), 0});
        ASSERT_TRUE(opened) << opened.error().message;
        stores = std::move(*opened);
        load();
    }
    void load()
    {
        auto loaded = Inventory::load(*stores.control, clock);
        ASSERT_TRUE(loaded) << loaded.error().message;
        inventory = std::move(*loaded);
    }
    void enrol(const std::string& name, const policy::Labels& token_labels = {}, const policy::Labels& proposed = {})
    {
        const auto hash = std::string(64, 'a') + name;
        const auto audit = make_audit(clock, {"admin", "test", "", ""});
        ASSERT_TRUE(stores.control->add_token({hash, unix_micros(clock) + 1'000'000, 1, token_labels}, audit));
        Enrolment enrolment;
        enrolment.secret_hash = hash;
        enrolment.agent.id = "agent-" + name;
        enrolment.agent.workload = name;
        enrolment.proposed = proposed;
        const auto outcome = stores.control->enrol(enrolment, unix_micros(clock), audit);
        ASSERT_TRUE(outcome) << outcome.error().message;
        inventory->enrolled(enrolment.agent, proposed, *outcome);
    }
    bool hello(const std::string& name, const std::vector<std::string>& addresses, const policy::Labels& labels = {})
    {
        v1::Hello message;
        for (const auto& address : addresses)
            message.add_addresses(bytes_of(address));
        message.mutable_labels()->insert(labels.begin(), labels.end());
        clock.shift += 1;
        return inventory->connected("agent-" + name, message);
    }
    Status label(const std::string& name, const policy::Labels& set, const std::vector<std::string>& remove = {})
    {
        return inventory->label(name, set, remove, make_audit(clock, {"admin", "workload.label", name, ""}));
    }
    policy::Workload workload(const std::string& name, const policy::PolicySet& policy = {})
    {
        for (auto& one : inventory->compose(policy).workloads.workloads)
            if (one.name == name)
                return one;
        return {};
    }
    std::vector<std::string> addresses_of(const std::string& name, const policy::PolicySet& policy = {})
    {
        std::vector<std::string> texts;
        for (const auto& address : workload(name, policy).addresses)
            texts.push_back(address.to_string());
        return texts;
    }

    TemporaryDir dir;
    ShiftedClock clock;
    Stores stores;
    std::unique_ptr<Inventory> inventory;
};

TEST_F(InventoryTest, LabelsWinInTheOrderAdminPolicyTokenAgent)
{
    enrol("web", {{"a", "token"}, {"b", "token"}, {"c", "token"}});
    hello("web", {}, {{"a", "agent"}, {"b", "agent"}, {"c", "agent"}, {"d", "agent"}});
    policy::PolicySet policy;
    policy.workloads.push_back({"web", {}, {{"b", "policy"}, {"c", "policy"}}, {}});
    ASSERT_TRUE(label("web", {{"c", "admin"}}));
    const policy::Labels expected{{"a", "token"}, {"b", "policy"}, {"c", "admin"}, {"d", "agent"}};
    EXPECT_EQ(workload("web", policy).labels, expected);
    EXPECT_EQ(inventory->compose(policy).label_sources.at("web"), expected) << "each is named for its source";
}

TEST_F(InventoryTest, AnAgentCannotTakeALabelThatTheTokenGave)
{
    enrol("web", {{"role", "web"}});
    hello("web", {}, {{"role", "db"}});
    EXPECT_EQ(workload("web").labels.at("role"), "web");
    load();
    EXPECT_EQ(workload("web").labels.at("role"), "web");
}

TEST_F(InventoryTest, OnlyTheAdminsOwnLabelsCanBeRemoved)
{
    enrol("web", {{"role", "web"}});
    ASSERT_TRUE(label("web", {{"env", "prod"}}));
    EXPECT_EQ(workload("web").labels.at("env"), "prod");
    const auto refused = label("web", {}, {"role"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().kind, ErrorKind::usage);
    EXPECT_FALSE(label("web", {{"x", "1"}}, {"x"}));
    EXPECT_FALSE(label("web", {{"a b", "1"}}));
    EXPECT_FALSE(label("web", {{"", "1"}}));
    ASSERT_TRUE(label("web", {}, {"env"}));
    EXPECT_FALSE(workload("web").labels.contains("env"));
}

TEST_F(InventoryTest, AddressesThatManyHostsHaveAreNoHosts)
{
    enrol("web");
    hello("web", {"127.0.0.1", "::1", "169.254.1.1", "fe80::1", "0.0.0.0", "::", "224.0.0.1", "ff02::1",
                  "255.255.255.255", "10.0.0.1", "2001:db8::1"});
    EXPECT_EQ(addresses_of("web"), (std::vector<std::string>{"10.0.0.1", "2001:db8::1"}));
}

TEST_F(InventoryTest, AnAddressStaysWithTheFirstWhoClaimedIt)
{
    enrol("zeta");
    enrol("alpha");
    EXPECT_TRUE(hello("zeta", {"10.0.0.1"}));
    EXPECT_TRUE(hello("alpha", {"10.0.0.1", "10.0.0.2"}));
    EXPECT_EQ(addresses_of("zeta"), std::vector<std::string>{"10.0.0.1"});
    EXPECT_EQ(addresses_of("alpha"), std::vector<std::string>{"10.0.0.2"});
    const auto contested = inventory->compose({}).contested;
    ASSERT_EQ(contested.size(), 1U);
    EXPECT_EQ(contested.begin()->owner, "zeta");

    ASSERT_TRUE(inventory->flush());
    load();
    EXPECT_EQ(addresses_of("zeta"), std::vector<std::string>{"10.0.0.1"}) << "who was first is remembered";
    EXPECT_TRUE(hello("zeta", {"10.0.0.9"}));
    EXPECT_EQ(addresses_of("alpha"), (std::vector<std::string>{"10.0.0.1", "10.0.0.2"}));
}

TEST_F(InventoryTest, AnAgentCannotTakeAnAddressThatADocumentGivesToAnother)
{
    enrol("aaa");
    hello("aaa", {"10.1.7.7"});
    policy::PolicySet policy;
    policy.workloads.push_back({"legacy", {*IpAddress::parse("10.1.7.7")}, {{"app", "legacy"}}, {}});
    EXPECT_TRUE(addresses_of("aaa", policy).empty());
    EXPECT_EQ(addresses_of("legacy", policy), std::vector<std::string>{"10.1.7.7"});
}

TEST_F(InventoryTest, ARepeatedHelloChangesNothing)
{
    enrol("web");
    EXPECT_TRUE(hello("web", {"10.0.0.1"}, {{"a", "b"}}));
    EXPECT_FALSE(hello("web", {"10.0.0.1"}, {{"a", "b"}}));
    EXPECT_TRUE(hello("web", {"10.0.0.1"}, {{"a", "c"}}));
}

TEST_F(InventoryTest, MalformedLabelsOfAnAgentAreLeftOut)
{
    enrol("web");
    hello("web", {},
          {{"good", "1"}, {"bad key", "1"}, {"x", "a,b=c"}, {"y", "\x1b[31m"}, {"z", std::string(300, 'z')}});
    EXPECT_EQ(workload("web").labels, (policy::Labels{{"good", "1"}}));
}

} // namespace
} // namespace bulkhead::controller
