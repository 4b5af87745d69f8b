// SPDX-License-Identifier: Apache-2.0
// What XDP does for a host in quarantine: the guard's work, earlier, and nothing else.
#include "tests/bpf/fixture.h"
#include "tests/bpf/frames.h"
#include "tests/bpf/runner.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <random>
#include <thread>

namespace bulkhead::test {
namespace {

using policy::HostAction;

const std::vector<std::string> wire{"bh0"};

TestPolicy only_ssh()
{
    return TestPolicy()
        .default_action(inbound, refuse)
        .default_action(outbound, refuse)
        .rule(HostAction::failsafe, inbound, "any", "tcp/22");
}

class QuarantineTest : public BpfTest {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.guard.attach = true;
        options.guard.early_drop = early_drop_;
        return options;
    }

    void quarantine()
    {
        const auto policy = only_ssh();
        const auto active = policy.plane(policy::Plane::active), shadow = policy.plane(policy::Plane::shadow);
        const auto done = datapath_->realise({&active, &shadow, {}, BH_CONTROL_QUARANTINE, std::nullopt});
        ASSERT_TRUE(done) << done.error().message;
        ASSERT_TRUE(datapath_->follow_interfaces());
    }

    void open_again()
    {
        datapath_.reset();
        auto opened = open(options());
        ASSERT_TRUE(opened) << opened.error().message;
        datapath_ = std::move(*opened);
    }

    // Of an interface of the guarded namespace.
    int index_of(const char* name)
    {
        unsigned index = 0;
        guarded([&] { index = ::if_nametoindex(name); });
        return static_cast<int>(index);
    }

    // Somebody's XDP program that lets all pass; an empty descriptor where XDP cannot be had.
    UniqueFd foreign_xdp(const char* interface)
    {
        std::array<bpf_insn, 2> pass{};
        pass[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
        pass[0].imm = XDP_PASS;
        pass[1].code = BPF_JMP | BPF_EXIT;
        const UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_XDP, "pass", "GPL", pass.data(), pass.size(), nullptr));
        LIBBPF_OPTS(bpf_link_create_opts, how, .flags = XDP_FLAGS_DRV_MODE);
        UniqueFd link;
        guarded([&] {
            link =
                UniqueFd(bpf_link_create(program.get(), static_cast<int>(::if_nametoindex(interface)), BPF_XDP, &how));
        });
        return link;
    }

    // The XDP program of an interface of the guarded namespace; 0: none.
    std::uint32_t xdp_of(int index)
    {
        std::uint32_t id = 0;
        guarded([&] { (void)bpf_xdp_query_id(index, XDP_FLAGS_DRV_MODE, &id); });
        return id;
    }

    bool early_drop_ = true;
};

TEST_F(QuarantineTest, XdpDropsWhatArrivesAndTellsIt)
{
    UniqueFd ssh, web;
    guarded([&] {
        ssh = listening({"10.77.0.1", 22});
        web = listening({"10.77.0.1", 80});
    });
    realise(only_ssh());
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->early_drop_interfaces(), std::vector<std::string>{}) << "only in quarantine";
    quarantine();
    ASSERT_EQ(datapath_->early_drop_interfaces(), wire);

    Sniffer sniffer(world_->wire.guarded); // sees what tc sees, but not what XDP has dropped
    peer([&] {
        EXPECT_EQ(send_frame(tcp_packet("10.77.0.2", "10.77.0.1", 4000, 80, tcp_syn)), 0);
        EXPECT_EQ(send_frame(tcp_packet("fd77::2", "fd77::1", 4000, 80, tcp_syn)), 0);
        EXPECT_FALSE(pings("10.77.0.1"));
        EXPECT_EQ(tcp_error({"10.77.0.1", 22}), 0);
    });
    EXPECT_TRUE(sniffer.saw_tcp("10.77.0.1", 22));
    EXPECT_FALSE(sniffer.saw_tcp("10.77.0.1", 80));
    EXPECT_FALSE(sniffer.saw_tcp("fd77::1", 80));
    EXPECT_FALSE(sniffer.saw_protocol(IPPROTO_ICMP));
    std::vector<bh_event> denials;
    for (const auto& event : drain())
        if (event.type == BH_EVENT_DENY)
            denials.push_back(event);
    ASSERT_EQ(denials.size(), 3U) << "each once, though the guard is there as well";
    for (const auto& denial : denials) {
        EXPECT_EQ(denial.direction, BH_INBOUND);
        EXPECT_EQ(denial.reason, BH_REASON_QUARANTINE);
    }
}

TEST_F(QuarantineTest, XdpGoesWithTheQuarantine)
{
    quarantine();
    ASSERT_EQ(datapath_->early_drop_interfaces(), wire);
    ASSERT_NE(xdp_of(index_of("bh0")), 0U);
    realise(TestPolicy());
    peer([] { EXPECT_TRUE(pings("10.77.0.1")) << "before anybody has detached it"; });
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->early_drop_interfaces(), std::vector<std::string>{});
    EXPECT_EQ(xdp_of(index_of("bh0")), 0U);
}

TEST_F(QuarantineTest, XdpGoesWithTheAgentAndTheQuarantineStays)
{
    quarantine();
    datapath_.reset();
    EXPECT_EQ(xdp_of(index_of("bh0")), 0U);
    peer([] { EXPECT_FALSE(pings("10.77.0.1")); });
    open_again();
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->early_drop_interfaces(), wire);
}

TEST_F(QuarantineTest, XdpOfSomebodyElseIsLeftAlone)
{
    const UniqueFd foreign = foreign_xdp("bh0");
    ASSERT_TRUE(foreign);
    const auto id = xdp_of(index_of("bh0"));
    quarantine();
    EXPECT_EQ(datapath_->early_drop_interfaces(), std::vector<std::string>{});
    EXPECT_EQ(xdp_of(index_of("bh0")), id);
    peer([] { EXPECT_FALSE(pings("10.77.0.1")); });
}

TEST_F(QuarantineTest, XdpIsNotUsedWhereItIsNotWanted)
{
    early_drop_ = false;
    open_again();
    quarantine();
    EXPECT_EQ(datapath_->early_drop_interfaces(), std::vector<std::string>{});
    EXPECT_EQ(xdp_of(index_of("bh0")), 0U);
    peer([] { EXPECT_FALSE(pings("10.77.0.1")); });
}

TEST_F(QuarantineTest, XdpFollowsInterfaces)
{
    quarantine();
    ip(world_->wire.guarded, "link add bh1 type veth peer name bh2");
    ip(world_->wire.guarded, "link add bhd type bridge"); // which has no XDP of its own
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->early_drop_interfaces(), (std::vector<std::string>{"bh0", "bh1", "bh2"}));
    ip(world_->wire.guarded, "link set bh1 name bh3");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->early_drop_interfaces(), (std::vector<std::string>{"bh0", "bh2", "bh3"}));
    ip(world_->wire.guarded, "link del bh3");
    ASSERT_TRUE(datapath_->follow_interfaces());
    EXPECT_EQ(datapath_->early_drop_interfaces(), wire);
}

class RandomFrames {
public:
    explicit RandomFrames(unsigned seed) : random_(seed) {}

    std::string next()
    {
        const bool v6 = one_of({0, 1}) != 0;
        const auto* from = v6 ? pick({"fd77::2", "fd77::1", "fe80::9", "2001:db8::1", "::1"})
                              : pick({"10.77.0.2", "10.77.0.1", "192.0.2.1", "127.0.0.1", "0.0.0.0"});
        const auto* to =
            v6 ? pick({"fd77::1", "fd77::1", "fd77::9", "ff02::1", "ff05::2"})
               : pick({"10.77.0.1", "10.77.0.1", "10.77.0.9", "224.0.0.1", "10.77.0.255", "255.255.255.255"});
        const auto protocol = one_of({IPPROTO_TCP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_IGMP,
                                      IPPROTO_GRE, IPPROTO_FRAGMENT, IPPROTO_HOPOPTS, 253});
        std::string payload(static_cast<std::size_t>(one_of({0, 7, 8, 20, 28, 60})), '\0');
        for (auto& byte : payload)
            byte = static_cast<char>(random_());
        if (payload.size() >= 4 && one_of({0, 1}) != 0) { // a port that a failsafe is about
            payload[2] = 0;
            payload[3] = 22;
        }
        if (payload.size() >= 14)
            payload[13] = static_cast<char>(one_of({0x02, 0x10, 0x12, 0x04, 0x01, 0x3f, 0}));
        if (!payload.empty() && protocol == IPPROTO_ICMPV6)
            payload[0] = static_cast<char>(one_of({1, 2, 128, 129, 130, 133, 135, 136, 143}));
        if (payload.size() >= 2 && protocol == IPPROTO_ICMP) {
            payload[0] = static_cast<char>(one_of({0, 3, 8, 11, 13}));
            payload[1] = static_cast<char>(one_of({0, 4}));
        }
        auto packet = ip_packet(from, to, static_cast<std::uint8_t>(protocol), payload);
        if (v6)
            packet[7] = static_cast<char>(one_of({1, 64, 255, 255}));
        else
            packet[8] = static_cast<char>(one_of({1, 64, 255}));
        if (!v6 && one_of({0, 0, 0, 1}) != 0) { // a fragment
            packet[6] = static_cast<char>(one_of({0x20, 0x00}));
            packet[7] = static_cast<char>(one_of({0, 1, 2}));
        }
        if (one_of({0, 0, 0, 1}) != 0)
            packet[random_() % packet.size()] ^= static_cast<char>(1U << random_() % 8);
        std::string frame(12, to_many(to) ? '\xff' : '\0'); // the addresses of loopback, which test runs arrive at
        for (int tags = one_of({0, 0, 0, 0, 1, 2, 3}); tags > 0; --tags)
            frame += std::string("\x81\x00\x00\x07", 4);
        frame += one_of({0, 0, 0, 0, 0, 0, 1}) != 0 ? std::string("\x08\x06", 2)
                 : v6                               ? std::string("\x86\xdd", 2)
                                                    : std::string("\x08\x00", 2);
        frame += packet;
        if (one_of({0, 0, 0, 1}) != 0)
            frame.resize(std::max<std::size_t>(14, random_() % frame.size()));
        return frame;
    }

private:
    static bool to_many(const std::string& to)
    {
        return to.starts_with("ff") || to.starts_with("224.") || to.ends_with(".255");
    }
    int one_of(std::initializer_list<int> values) { return *(values.begin() + random_() % values.size()); }
    const char* pick(std::initializer_list<const char*> values)
    {
        return *(values.begin() + random_() % values.size());
    }
    std::mt19937 random_;
};

TEST_F(QuarantineTest, XdpDropsNothingThatTheGuardLetsPass)
{
    quarantine();
    const int index = index_of("bh0");
    const auto found = guard_of(agent::pin_folder(options()), index, "in");
    if (!found)
        GTEST_SKIP() << "this kernel has no tcx, whose link names the guard's program";
    const Runner &guard = *found, early(xdp_of(index));
    ASSERT_TRUE(guard.there() && early.there());

    const auto seed = std::random_device{}();
    RandomFrames frames(seed);
    int dropped = 0, dropped_early = 0;
    for (int i = 0; i < 20'000; ++i) {
        const auto frame = frames.next();
        const int by_guard = guard(frame), by_xdp = early(frame);
        ASSERT_TRUE(by_xdp == XDP_PASS || by_xdp == XDP_DROP) << by_xdp;
        if (by_guard == -EINVAL) { // newer kernels make no skb of what is too short for its IP header
            EXPECT_EQ(by_xdp, XDP_PASS);
            continue;
        }
        ASSERT_TRUE(by_guard == TC_ACT_UNSPEC || by_guard == TC_ACT_SHOT) << by_guard;
        ASSERT_FALSE(by_xdp == XDP_DROP && by_guard != TC_ACT_SHOT)
            << "seed " << seed << ", frame " << i << ": " << testing::PrintToString(frame);
        dropped += by_guard == TC_ACT_SHOT;
        dropped_early += by_xdp == XDP_DROP;
    }
    EXPECT_GT(dropped_early, 20'000 / 10);
    EXPECT_LT(dropped_early, dropped) << "what cannot be read is the guard's";
    EXPECT_GT(dropped_early, dropped / 4);
}

} // namespace
} // namespace bulkhead::test
