// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/container.h"
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <net/if.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <thread>

namespace bulkhead::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Tamper : public BpfTest {
protected:
    void SetUp() override
    {
        BpfTest::SetUp();
        if (!datapath_)
            return;
        realise(TestPolicy().default_action(outbound, refuse));
        ASSERT_THAT(found(), IsEmpty());
    }
    [[nodiscard]] std::string pin(const std::string& name) const { return options().pin_dir + "/test/" + name; }
    [[nodiscard]] UniqueFd open_pin(const std::string& name) const { return UniqueFd(bpf_obj_get(pin(name).c_str())); }
    // "what" or "what: why it could not be mended".
    std::vector<std::string> found()
    {
        std::vector<std::string> texts;
        for (const auto& one : datapath_->look_for_tampering())
            texts.push_back(one.failure.empty() ? one.what : one.what + ": " + one.failure);
        return texts;
    }
    [[nodiscard]] int denied_error() const
    {
        int error = -1;
        guarded([&] { error = tcp_error({"10.77.0.2", 80}); });
        return error;
    }
    void expect_whole()
    {
        EXPECT_EQ(denied_error(), EPERM);
        EXPECT_THAT(found(), IsEmpty()) << "it is told once";
        datapath_.reset();
        EXPECT_EQ(denied_error(), EPERM) << "and pinned again";
        auto second = open(options());
        ASSERT_TRUE(second) << second.error().message;
        datapath_ = std::move(*second);
        EXPECT_EQ(denied_error(), EPERM);
        EXPECT_THAT(found(), IsEmpty());
    }
};

TEST_F(Tamper, ADetachedProgramIsAttachedAgain)
{
    for (const char* name : {"connect4", "sk_lookup"}) {
        const UniqueFd link = open_pin(std::string("links/") + name);
        ASSERT_EQ(bpf_link_detach(link.get()), 0);
    }
    EXPECT_EQ(denied_error(), ECONNREFUSED) << "nobody listens, and nobody guards";
    EXPECT_THAT(found(), ElementsAre("the program at sk_lookup was detached", "the program at connect4 was detached"));
    expect_whole();
}

TEST_F(Tamper, AReplacedProgramIsPutBack)
{
    const bpf_insn pass[] = {{0xb7, 0, 0, 0, 1}, {0x95, 0, 0, 0, 0}}; // r0 = 1; exit
    LIBBPF_OPTS(bpf_prog_load_opts, load, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
    const UniqueFd open_door(
        bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "open_door", "GPL", pass, std::size(pass), &load));
    ASSERT_TRUE(open_door);
    ASSERT_EQ(bpf_link_update(open_pin("links/connect4").get(), open_door.get(), nullptr), 0);
    EXPECT_EQ(denied_error(), ECONNREFUSED);
    EXPECT_THAT(found(), ElementsAre("the program at connect4 was replaced"));
    expect_whole();
}

TEST_F(Tamper, RemovedPinsCostOnlyThePins)
{
    ASSERT_EQ(::unlink(pin("links/connect4").c_str()), 0);
    ASSERT_EQ(::unlink(pin("maps/bh_control").c_str()), 0);
    ::usleep(100'000); // the kernel lets go of a link a little later
    EXPECT_EQ(denied_error(), EPERM) << "the agent holds it";
    EXPECT_THAT(found(), ElementsAre(HasSubstr("2 of ")));
    expect_whole();
}

TEST_F(Tamper, AFolderOfPinsThatIsGoneComesBack)
{
    std::filesystem::remove_all(options().pin_dir);
    ASSERT_FALSE(std::filesystem::exists(options().pin_dir));
    const auto texts = found();
    ASSERT_FALSE(texts.empty());
    EXPECT_THAT(texts.front(), HasSubstr("were removed or replaced"));
    expect_whole();
}

TEST_F(Tamper, AReplacedPinIsPutRight)
{
    ASSERT_EQ(::unlink(pin("maps/bh_listeners").c_str()), 0);
    const UniqueFd odd(bpf_map_create(BPF_MAP_TYPE_HASH, "odd", 4, 4, 1, nullptr));
    ASSERT_EQ(bpf_obj_pin(odd.get(), pin("maps/bh_listeners").c_str()), 0);
    EXPECT_THAT(found(), ElementsAre(HasSubstr("1 of ")));
    expect_whole();
}

TEST_F(Tamper, TheControlWordIsPutBack)
{
    const UniqueFd control = open_pin("maps/bh_control");
    const __u32 zero = 0;
    const bh_control nothing{BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, 99};
    ASSERT_EQ(bpf_map_update_elem(control.get(), &zero, &nothing, BPF_ANY), 0);
    EXPECT_EQ(denied_error(), ECONNREFUSED);
    EXPECT_THAT(found(), ElementsAre(HasSubstr("control word")));
    expect_whole();
}

TEST_F(Tamper, ThePlanesInForceArePutBack)
{
    const __u32 slot = datapath_->control().active_slot;
    const UniqueFd info = open_pin("maps/bh_plane_info");
    bh_plane_info open{};
    open.default_action[0] = open.default_action[1] = BH_DEFAULT_ALLOW;
    ASSERT_EQ(bpf_map_update_elem(info.get(), &slot, &open, BPF_ANY), 0);
    EXPECT_EQ(denied_error(), ECONNREFUSED);
    EXPECT_THAT(found(), ElementsAre(HasSubstr("plane slot")));
    EXPECT_EQ(denied_error(), EPERM);
    const UniqueFd entries = open_pin("maps/bh_plane_entries");
    ASSERT_EQ(bpf_map_delete_elem(entries.get(), &slot), 0);
    EXPECT_THAT(found(), ElementsAre(HasSubstr("plane slot")));
    expect_whole();
    // Of planes that an agent before has built, too.
    ASSERT_EQ(bpf_map_delete_elem(entries.get(), &slot), 0);
    EXPECT_THAT(found(), ElementsAre(HasSubstr("plane slot")));
    expect_whole();
}

TEST_F(Tamper, APlaneInForceCannotBeWrittenTo)
{
    const __u32 slot = datapath_->control().active_slot;
    __u32 id = 0;
    ASSERT_EQ(bpf_map_lookup_elem(open_pin("maps/bh_plane_peers").get(), &slot, &id), 0);
    const UniqueFd peers(bpf_map_get_fd_by_id(id));
    const auto key = abi_address("10.77.0.2");
    const __u32 peer_class = 7;
    EXPECT_NE(bpf_map_update_elem(peers.get(), &key, &peer_class, BPF_ANY), 0);
    EXPECT_EQ(errno, EPERM);
}

TEST_F(Tamper, ChangedClassesOfProcessesArePutBack)
{
    TestPolicy policy;
    policy.process_classes(1).default_action(outbound, refuse);
    policy.rule(policy::HostAction::allow, outbound, "any", "tcp/80", 1);
    const agent::FacetTable nobody{{{0, 0, BH_FACET_USER | BH_FACET_DEFAULT}, {{1, 0, 0, 0}}},
                                   {{0, 0, BH_FACET_EXECUTABLE | BH_FACET_DEFAULT}, {{3, 0, 0, 0}}},
                                   {{0, 0, BH_FACET_CGROUP | BH_FACET_DEFAULT}, {{3, 0, 0, 0}}}};
    realise(policy, nobody);
    EXPECT_EQ(denied_error(), EPERM);
    const __u32 slot = datapath_->control().active_slot;
    __u32 id = 0;
    ASSERT_EQ(bpf_map_lookup_elem(open_pin("maps/bh_plane_facets").get(), &slot, &id), 0);
    const UniqueFd facets(bpf_map_get_fd_by_id(id));
    const bh_facet_key everybody{0, 0, BH_FACET_USER | BH_FACET_DEFAULT};
    const bh_class_vector all{{3, 0, 0, 0}};
    ASSERT_EQ(bpf_map_update_elem(facets.get(), &everybody, &all, BPF_ANY), 0);
    EXPECT_EQ(denied_error(), ECONNREFUSED);
    EXPECT_THAT(found(), ElementsAre("the classes of processes were changed"));
    EXPECT_EQ(denied_error(), EPERM);
    auto fewer = nobody;
    fewer.pop_back();
    ASSERT_TRUE(datapath_->update_facets(datapath_->control().generation, fewer))
        << "what the agent itself changes is no tampering";
    EXPECT_THAT(found(), IsEmpty());
}

// In a mount namespace of its own, so that nobody else's file system is touched.
template <typename Work>
void with_own_mounts(const Work& work)
{
    std::thread([&] {
        ASSERT_EQ(::unshare(CLONE_FS | CLONE_NEWNS), 0);
        ASSERT_EQ(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
        work();
    }).join();
}

TEST_F(Tamper, AFileSystemMountedOverThePinsGetsPins)
{
    with_own_mounts([this] {
        const std::string folder = options().pin_dir;
        ASSERT_EQ(::mount("bpf", folder.c_str(), "bpf", 0, nullptr), 0);
        EXPECT_EQ(denied_error(), EPERM);
        EXPECT_THAT(found(), ElementsAre(HasSubstr("were removed or replaced")));
        EXPECT_TRUE(open_pin("links/connect4"));
        EXPECT_TRUE(open_pin("maps/bh_control"));
        EXPECT_THAT(found(), IsEmpty());
        EXPECT_EQ(::umount(folder.c_str()), 0);
        EXPECT_THAT(found(), IsEmpty()) << "those from before are there again";
        // One that cannot hold pins.
        ASSERT_EQ(::mount("none", folder.c_str(), "tmpfs", 0, nullptr), 0);
        EXPECT_THAT(found(), ElementsAre(HasSubstr("were removed or replaced")));
        EXPECT_TRUE(open_pin("links/connect4"));
        EXPECT_EQ(denied_error(), EPERM);
    });
    expect_whole();
}

TEST_F(Tamper, AnUnmountedFileSystemIsMountedAgain)
{
    with_own_mounts([this] {
        while (::umount("/sys/fs/bpf") == 0) {
        }
        ASSERT_FALSE(std::filesystem::exists(options().pin_dir));
        EXPECT_EQ(denied_error(), EPERM);
        EXPECT_THAT(found(), ElementsAre(HasSubstr("were removed or replaced")));
        EXPECT_TRUE(open_pin("links/connect4"));
        EXPECT_THAT(found(), IsEmpty());
    });
    expect_whole();
}

// The inbound door of another network namespace, which is a gate that calls a program of ours.
class TamperGate : public Tamper {
protected:
    void SetUp() override
    {
        Tamper::SetUp();
        if (!datapath_)
            return;
        container_ = std::make_unique<Container>(world_->enforced);
        container_->join(world_->wire.peer);
        EXPECT_THAT(datapath_->follow_namespaces().came, ElementsAre(container_->inode()));
        run_in(container_->netns(), world_->enforced, [this] { server_ = listening({"0.0.0.0", 80}); });
        realise(TestPolicy().default_action(outbound, refuse).default_action(inbound, refuse));
        ASSERT_EQ(error(), ECONNREFUSED);
    }
    void TearDown() override
    {
        server_.reset();
        container_.reset();
        Tamper::TearDown();
    }
    [[nodiscard]] int error() const
    {
        int got = -1;
        peer([&] { got = tcp_error({"10.78.0.1", 80}); });
        return got;
    }
    [[nodiscard]] std::string gate() const { return "links/sk_lookup_" + std::to_string(container_->inode()); }
    [[nodiscard]] std::string named(const std::string& what) const
    {
        return "the program in network namespace " + std::to_string(container_->inode()) + " was " + what;
    }
    void expect_guarded_and_judged()
    {
        EXPECT_EQ(error(), ECONNREFUSED);
        EXPECT_THAT(datapath_->follow_namespaces().came, ElementsAre(container_->inode()))
            << "what came in meanwhile is to be judged";
        EXPECT_THAT(datapath_->follow_namespaces().came, IsEmpty());
        expect_whole();
        EXPECT_EQ(error(), ECONNREFUSED);
    }
    std::unique_ptr<Container> container_;
    UniqueFd server_;
};

TEST_F(TamperGate, ADetachedGateIsAttachedAgain)
{
    ASSERT_EQ(bpf_link_detach(open_pin(gate()).get()), 0);
    EXPECT_EQ(error(), 0);
    EXPECT_THAT(found(), ElementsAre(named("detached")));
    expect_guarded_and_judged();
}

TEST_F(TamperGate, ADetachedGateIsToldAlsoWhenWhoeverFollowsNamespacesComesFirst)
{
    ASSERT_EQ(bpf_link_detach(open_pin(gate()).get()), 0);
    EXPECT_THAT(datapath_->follow_namespaces().came, ElementsAre(container_->inode()));
    EXPECT_EQ(error(), ECONNREFUSED);
    EXPECT_THAT(found(), ElementsAre(named("detached")));
}

TEST_F(TamperGate, AReplacedGateIsPutBack)
{
    const bpf_insn pass[] = {{0xb7, 0, 0, 0, 1}, {0x95, 0, 0, 0, 0}}; // r0 = SK_PASS; exit
    LIBBPF_OPTS(bpf_prog_load_opts, load, .expected_attach_type = BPF_SK_LOOKUP);
    const UniqueFd open_gate(bpf_prog_load(BPF_PROG_TYPE_SK_LOOKUP, "open_gate", "GPL", pass, std::size(pass), &load));
    ASSERT_TRUE(open_gate);
    ASSERT_EQ(bpf_link_update(open_pin(gate()).get(), open_gate.get(), nullptr), 0);
    EXPECT_EQ(error(), 0);
    EXPECT_THAT(found(), ElementsAre(named("replaced")));
    expect_guarded_and_judged();
}

TEST_F(TamperGate, WhatTheGatesCallIsPutBack)
{
    const __u32 zero = 0;
    ASSERT_EQ(bpf_map_delete_elem(open_pin("maps/bh_gate_program").get(), &zero), 0);
    EXPECT_EQ(error(), 0);
    EXPECT_THAT(found(), ElementsAre(HasSubstr("gates of network namespaces")));
    expect_guarded_and_judged();
}

TEST_F(TamperGate, ARemovedPinOfAGateCostsOnlyThePin)
{
    ASSERT_EQ(::unlink(pin(gate()).c_str()), 0);
    ::usleep(100'000);
    EXPECT_EQ(error(), ECONNREFUSED);
    EXPECT_THAT(datapath_->follow_namespaces().came, IsEmpty());
    EXPECT_THAT(found(), ElementsAre(HasSubstr("1 of ")));
    expect_whole();
    EXPECT_EQ(error(), ECONNREFUSED);
}

TEST_F(TamperGate, ANamespaceThatEndsIsNoTampering)
{
    const auto inode = container_->inode();
    server_.reset();
    container_->end();
    for (int i = 0; i < 100 && std::filesystem::exists(pin("links/sk_lookup_" + std::to_string(inode))); ++i) {
        EXPECT_THAT(found(), IsEmpty());
        (void)datapath_->follow_namespaces();
        ::usleep(20'000);
    }
    EXPECT_THAT(found(), IsEmpty());
}

class TamperGuard : public Tamper, public testing::WithParamInterface<bool> {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto with_guard = BpfTest::options(instance);
        with_guard.guard.attach = true;
        with_guard.guard.force_clsact = GetParam();
        return with_guard;
    }
};

INSTANTIATE_TEST_SUITE_P(, TamperGuard, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

TEST_P(TamperGuard, IsPutBack)
{
    std::vector<std::filesystem::path> links;
    for (const auto& one : std::filesystem::directory_iterator(pin("links")))
        if (one.path().filename().string().starts_with("guard_"))
            links.push_back(one.path());
    if (GetParam()) {
        guarded([&] {
            bpf_tc_hook hook{};
            hook.sz = sizeof(hook);
            hook.ifindex = static_cast<int>(::if_nametoindex("bh0"));
            hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
            ASSERT_EQ(bpf_tc_hook_destroy(&hook), 0);
        });
        EXPECT_THAT(found(), ElementsAre(HasSubstr("was taken away"), HasSubstr("was taken away")));
    } else if (links.empty()) {
        GTEST_SKIP() << "this kernel has no tcx";
    } else {
        ASSERT_EQ(::unlink(links[0].c_str()), 0);
        EXPECT_THAT(found(), ElementsAre(HasSubstr("the pin of the guard")));
        const UniqueFd link(bpf_obj_get(links[0].c_str()));
        ASSERT_EQ(bpf_link_detach(link.get()), 0);
        EXPECT_THAT(found(), ElementsAre(HasSubstr("was taken away")));
    }
    expect_whole();
}

} // namespace
} // namespace bulkhead::test
