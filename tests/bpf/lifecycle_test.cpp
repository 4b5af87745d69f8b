// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace bulkhead::test {
namespace {

class Lifecycle : public BpfTest {
protected:
    [[nodiscard]] int guarded_tcp_error(const Address& to) const
    {
        int error = -1;
        guarded([&] { error = tcp_error(to); });
        return error;
    }
    [[nodiscard]] std::string pin(const std::string& name, const std::string& instance = "test") const
    {
        return options().pin_dir + "/" + instance + "/" + name;
    }
    const Address target{"10.77.0.2", 80};
};

TEST_F(Lifecycle, EnforcementOutlivesTheObject)
{
    realise(TestPolicy().default_action(outbound, refuse));
    EXPECT_EQ(guarded_tcp_error(target), EPERM);
    datapath_.reset();
    EXPECT_EQ(guarded_tcp_error(target), EPERM);
    const auto detached = agent::detach_datapath(options());
    ASSERT_TRUE(detached);
    EXPECT_TRUE(*detached);
    EXPECT_EQ(guarded_tcp_error(target), ECONNREFUSED) << "nobody listens there, and nobody guards any more";
    EXPECT_FALSE(agent::detach_datapath(options()).value());
}

TEST_F(Lifecycle, DetachActsAlthoughAnAgentHoldsTheLinks)
{
    realise(TestPolicy().default_action(outbound, refuse));
    ASSERT_TRUE(agent::detach_datapath(options()));
    EXPECT_EQ(guarded_tcp_error(target), ECONNREFUSED);
}

TEST_F(Lifecycle, TakeoverKeepsPlanesListenersAndConnections)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .default_action(inbound, refuse)
                .allow(outbound, "10.77.0.2", "tcp/80"));
    UniqueFd theirs, ours, client, server;
    peer([&] { theirs = listening(target); });
    guarded([&] {
        ours = listening({"10.77.0.1", 8080});
        client = make_socket(AF_INET, SOCK_STREAM);
        ASSERT_EQ(connect_error(client, target), 0);
    });
    server = accepted(theirs);
    const auto before = datapath_->control();

    auto second = open(options());
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ((*second)->control().generation, before.generation);
    EXPECT_EQ((*second)->control().active_slot, before.active_slot);
    datapath_ = std::move(*second);

    EXPECT_EQ(guarded_tcp_error({"10.77.0.3", 80}), EPERM);
    EXPECT_EQ(guarded_tcp_error(target), 0);
    peer([&] { EXPECT_EQ(tcp_error({"10.77.0.1", 8080}), ECONNREFUSED); });
    ASSERT_EQ(send_error(client, "still here"), 0);
    EXPECT_EQ(receive(server).text, "still here");
    const auto cookie = cookie_of(client);
    client.reset();
    server.reset();
    const auto closed =
        wait_for([cookie](const bh_event& event) { return event.type == BH_EVENT_CLOSE && event.cookie == cookie; });
    ASSERT_TRUE(closed) << "the new program tells the end of a connection that the old one saw begin";
    EXPECT_EQ(closed->bytes_out, 10U);

    // The planes of the agent before can be replaced.
    realise(TestPolicy().default_action(outbound, permit));
    EXPECT_EQ(datapath_->control().generation, before.generation + 1);
    EXPECT_EQ(guarded_tcp_error({"10.77.0.3", 80}), ECONNREFUSED);
    ASSERT_TRUE(datapath_->clear());
}

TEST_F(Lifecycle, TakenOverFacetsCanBeReplaced)
{
    TestPolicy policy;
    policy.process_classes(1).default_action(outbound, refuse);
    policy.rule(policy::HostAction::allow, outbound, "any", "tcp/80", 1);
    const agent::FacetRow for_all{{0, 0, BH_FACET_USER | BH_FACET_DEFAULT}, {{3, 0, 0, 0}}};
    const agent::FacetRow executable{{0, 0, BH_FACET_EXECUTABLE | BH_FACET_DEFAULT}, {{3, 0, 0, 0}}};
    const agent::FacetRow no_cgroup{{0, 0, BH_FACET_CGROUP | BH_FACET_DEFAULT}, {{1, 0, 0, 0}}};
    const agent::FacetRow any_cgroup{{0, 0, BH_FACET_CGROUP | BH_FACET_DEFAULT}, {{3, 0, 0, 0}}};
    realise(policy, {for_all, executable, no_cgroup});
    EXPECT_EQ(guarded_tcp_error(target), EPERM);
    auto second = open(options());
    ASSERT_TRUE(second);
    datapath_ = std::move(*second);
    ASSERT_TRUE(datapath_->update_facets(datapath_->control().generation, {for_all, executable, any_cgroup}));
    EXPECT_EQ(guarded_tcp_error(target), ECONNREFUSED);
}

TEST_F(Lifecycle, InstancesSideBySideDoNotTouchEachOther)
{
    auto other_options = options("other.service");
    other_options.cgroup = world_->elsewhere.path();
    auto other = open(other_options);
    ASSERT_TRUE(other) << other.error().message;
    ASSERT_TRUE(test::realise(**other, TestPolicy().default_action(outbound, refuse)));
    int error = -1;
    outsider([&] { error = tcp_error(target); });
    EXPECT_EQ(error, EPERM);
    EXPECT_EQ(guarded_tcp_error(target), ECONNREFUSED);
    other->reset();
    ASSERT_TRUE(agent::detach_datapath(other_options).value());
    outsider([&] { error = tcp_error(target); });
    EXPECT_EQ(error, ECONNREFUSED);
    realise(TestPolicy().default_action(outbound, refuse));
    EXPECT_EQ(guarded_tcp_error(target), EPERM);
}

TEST_F(Lifecycle, InstanceOfAnotherCgroupOrNamespaceIsRefused)
{
    auto elsewhere = options();
    elsewhere.cgroup = world_->elsewhere.path();
    const auto cgroup = open(elsewhere);
    ASSERT_FALSE(cgroup);
    EXPECT_EQ(cgroup.error().kind, ErrorKind::refused);
    Result<std::unique_ptr<agent::Datapath>> netns;
    peer([&] { netns = agent::open_datapath(options()); });
    ASSERT_FALSE(netns);
    EXPECT_EQ(netns.error().kind, ErrorKind::refused);
    EXPECT_NE(netns.error().mend.find("--detach"), std::string::npos);
    // The refused one changed nothing.
    realise(TestPolicy().default_action(outbound, refuse));
    EXPECT_EQ(guarded_tcp_error(target), EPERM);
}

TEST_F(Lifecycle, MissingLinkIsMadeAgain)
{
    realise(TestPolicy().default_action(outbound, refuse));
    datapath_.reset();
    ASSERT_EQ(::unlink(pin("links/connect4").c_str()), 0);
    for (int i = 0; i < 100 && guarded_tcp_error(target) == EPERM; ++i) // the kernel lets go of it a little later
        ::usleep(20000);
    EXPECT_EQ(guarded_tcp_error(target), ECONNREFUSED);
    auto second = open(options());
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(guarded_tcp_error(target), EPERM);
}

TEST_F(Lifecycle, DeadLinkIsReplaced)
{
    realise(TestPolicy().default_action(outbound, refuse));
    datapath_.reset();
    {
        const UniqueFd link(bpf_obj_get(pin("links/connect4").c_str()));
        ASSERT_EQ(bpf_link_detach(link.get()), 0); // what the kernel does when the cgroup goes
    }
    auto second = open(options());
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ(guarded_tcp_error(target), EPERM);
}

TEST_F(Lifecycle, LeftoversOfAnInterruptedFirstStartAreNoObstacle)
{
    datapath_.reset();
    ASSERT_TRUE(agent::detach_datapath(options()));
    ASSERT_TRUE(std::filesystem::create_directories(options().pin_dir + "/test/maps"));
    const UniqueFd odd(bpf_map_create(BPF_MAP_TYPE_HASH, "odd", 4, 4, 1, nullptr));
    ASSERT_EQ(bpf_obj_pin(odd.get(), pin("maps/bh_counters").c_str()), 0);
    auto second = open(options());
    ASSERT_TRUE(second) << second.error().message;
    EXPECT_EQ((*second)->control().active_slot, BH_SLOT_NONE);
}

TEST_F(Lifecycle, FailureLeavesNothing)
{
    auto nowhere = options("nowhere");
    nowhere.cgroup = "/proc";
    EXPECT_FALSE(open(nowhere));
    EXPECT_FALSE(std::filesystem::exists(options().pin_dir + "/nowhere"));
}

TEST_F(Lifecycle, InstanceIsNamedForTheCgroup)
{
    const std::string root = agent::find_cgroup2_root().value();
    EXPECT_EQ(agent::instance_name(root), "host");
    EXPECT_EQ(agent::instance_name(root + "/a/b.service"), "a-b.service");
    EXPECT_TRUE(agent::missing_features(options()).empty());
    EXPECT_FALSE(agent::missing_features({"/proc", "", ""}).empty());
}

} // namespace
} // namespace bulkhead::test
