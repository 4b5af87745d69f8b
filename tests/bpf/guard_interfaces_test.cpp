// SPDX-License-Identifier: Apache-2.0
// A host of many interfaces, and what one of them is set to by itself.
#include "tests/bpf/frames.h"
#include "tests/bpf/guard_fixture.h"

#include <gmock/gmock.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace bulkhead::test {
namespace {

class GuardedInterfaces : public GuardTest {
protected:
    [[nodiscard]] static bool run(const std::string& command)
    {
        return std::system(command.c_str()) == 0; // NOLINT(cert-env33-c): with our own words
    }
    [[nodiscard]] std::string pin_of(const std::string& interface) const
    {
        std::string number;
        guarded([&] { number = std::to_string(::if_nametoindex(interface.c_str())); });
        return options().pin_dir + "/test/links/guard_" + number + "_in";
    }
    // As a program of the agent is, and not its.
    [[nodiscard]] UniqueFd foreign_link() const
    {
        return UniqueFd(bpf_obj_get((options().pin_dir + "/test/links/connect4").c_str()));
    }
    void add_pairs(int pairs) const
    {
        const std::string batch = "/tmp/bulkhead-links-" + std::to_string(::getpid());
        std::ofstream lines(batch);
        for (int i = 0; i < pairs; ++i)
            lines << "link add a" << i << " type veth peer name b" << i << "\n";
        lines.close();
        ip(world_->wire.guarded, "-batch " + batch);
        std::filesystem::remove(batch);
    }
};

INSTANTIATE_TEST_SUITE_P(, GuardedInterfaces, testing::Bool(),
                         [](const auto& kind) { return kind.param ? "clsact" : "tcx"; });

class PinnedGuards : public GuardedInterfaces {};

INSTANTIATE_TEST_SUITE_P(, PinnedGuards, testing::Values(false), [](const auto&) { return "tcx"; });

// Not all can be looked at closely at once; that something acts is asked of each.
TEST_P(GuardedInterfaces, WhatIsTakenAwayOfManyIsPutBackAtOnce)
{
    constexpr int pairs = 40;
    add_pairs(pairs);
    ASSERT_TRUE(datapath_->follow_interfaces());
    ASSERT_EQ(datapath_->guarded_interfaces().size(), 2U * pairs + 1);
    for (int round = 0; round < 5; ++round)
        EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
    for (const std::string name : {"a0", "b20", "a39"}) {
        const std::string path = pin_of(name);
        if (GetParam()) {
            guarded([&] { ASSERT_TRUE(run("tc filter del dev " + name + " ingress")); });
        } else {
            const UniqueFd link(bpf_obj_get(path.c_str()));
            ASSERT_EQ(bpf_link_detach(link.get()), 0);
        }
        const auto found = datapath_->look_for_tampering();
        ASSERT_EQ(found.size(), 1U) << name;
        EXPECT_EQ(found[0].what, "the guard of interface " + name + " was taken away");
        EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
        if (GetParam())
            continue;
        ASSERT_EQ(::unlink(path.c_str()), 0);
        EXPECT_THAT(datapath_->look_for_tampering(), testing::SizeIs(1)) << name;
        EXPECT_TRUE(UniqueFd(bpf_obj_get(path.c_str()))) << name;
    }
}

TEST_P(PinnedGuards, OneThatIsAnothersIsFoundInItsTurn)
{
    constexpr int pairs = 40, rounds = 3; // of 32 interfaces each
    add_pairs(pairs);
    ASSERT_TRUE(datapath_->follow_interfaces());
    const std::string path = pin_of("b39");
    ASSERT_EQ(::unlink(path.c_str()), 0);
    ASSERT_EQ(bpf_obj_pin(foreign_link().get(), path.c_str()), 0);
    std::size_t found = 0;
    for (int round = 0; round < rounds; ++round)
        found += datapath_->look_for_tampering().size();
    EXPECT_EQ(found, 1U);
    const UniqueFd link(bpf_obj_get(path.c_str()));
    bpf_link_info info{};
    __u32 size = sizeof(info);
    ASSERT_EQ(bpf_obj_get_info_by_fd(link.get(), &info, &size), 0);
    EXPECT_NE(info.type, static_cast<__u32>(BPF_LINK_TYPE_CGROUP));
}

TEST_P(GuardedInterfaces, OneThatForwardsByItselfIsSeen)
{
    const Netns behind;
    const std::string there = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(behind.fd());
    ip(world_->wire.guarded, "link add inner type veth peer name outer netns " + there);
    ip(world_->wire.guarded, "addr add 10.78.0.1/24 dev inner");
    ip(world_->wire.guarded, "link set inner up");
    ip(behind, "addr add 10.78.0.2/24 dev outer");
    ip(behind, "link set outer up");
    ip(behind, "route add default via 10.78.0.1");
    ip(world_->wire.peer, "route add 10.78.0.0/24 via 10.77.0.1");
    UniqueFd server;
    peer([&] { server = listening({"10.77.0.2", 80}); });
    guarded([&] {
        ASSERT_TRUE(run("sysctl -qw net.ipv4.conf.all.forwarding=0 net.ipv4.conf.inner.forwarding=1 "
                        "net.ipv4.conf.bh0.forwarding=1"));
    });
    const auto error = [&] {
        int result = -1;
        run_in(behind, world_->elsewhere, [&] { result = tcp_error({"10.77.0.2", 80}); });
        return result;
    };
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(error(), 0) << "without a policy";
    realise(closed());
    EXPECT_NE(error(), 0);
}

TEST_P(GuardedInterfaces, OneThatTakesTheHostsOwnSourcesIsSeen)
{
    realise(closed().allow(inbound, "any", "tcp/80"));
    const auto refused = [&] {
        peer([&] { (void)send_frame(tcp_packet("10.77.0.1", "10.77.0.1", 1234, 80, tcp_syn)); });
        return denial_seen(IPPROTO_TCP);
    };
    EXPECT_FALSE(refused()) << "the kernel drops it, and nobody has to look";
    guarded([&] { ASSERT_TRUE(run("sysctl -qw net.ipv4.conf.bh0.accept_local=1")); });
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_TRUE(refused());
}

} // namespace
} // namespace bulkhead::test
