// SPDX-License-Identifier: Apache-2.0
#include "agent/local/map_words.h"

#include "agent/daemon/policy_view.h"
#include "tests/unit/agent/enforcer_life.h"

#include <gmock/gmock.h>
#include <netinet/in.h>

#include <cstring>

namespace bulkhead::agent {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

bh_address v4(unsigned last)
{
    bh_address address{};
    auto* bytes = reinterpret_cast<unsigned char*>(&address);
    bytes[10] = bytes[11] = 0xff;
    bytes[12] = 192, bytes[13] = 0, bytes[14] = 2, bytes[15] = static_cast<unsigned char>(last);
    return address;
}

bh_subject subject(const char* comm)
{
    bh_subject who{};
    who.pid = 42;
    std::strncpy(who.comm, comm, sizeof who.comm - 1);
    return who;
}

const v1::KernelTable& table(const v1::LocalMaps& maps, const std::string& name)
{
    for (const auto& one : maps.tables())
        if (one.name() == name)
            return one;
    static const v1::KernelTable none;
    ADD_FAILURE() << "no table " << name;
    return none;
}

class MapWords : public ::testing::Test {
protected:
    MapWords()
    {
        auto state = state_of(3);
        state.policy.processes = {policy::ProcessCondition{}};
        state.policy.processes[0].unit = "nginx.service";
        contents.view = *build_view(state, failsafes());
        contents.control = {0, BH_SLOT_NONE, BH_ABI_VERSION, BH_CONTROL_QUARANTINE, 7};
        contents.now = MonotonicTime(std::chrono::seconds(100));
        bh_listener listener{};
        listener.state = BH_LISTENER_LISTENING;
        listener.owner = subject("nginx");
        contents.listeners = {{bh_listener_key{v4(9), 80, IPPROTO_TCP, 0, 4026}, listener}};
        bh_udp_flow flow{};
        flow.last_ns = 95'000'000'000;
        flow.direction = BH_OUTBOUND;
        flow.subject = subject("resolver");
        contents.udp_flows = {{bh_udp_flow_key{v4(53), 53, 4000, 4026}, flow}};
        bh_denial denial{};
        denial.count = 12;
        denial.first.verdict = BH_DENIED;
        denial.first.direction = BH_INBOUND;
        denial.first.protocol = IPPROTO_TCP;
        denial.first.remote = v4(77);
        bh_denial reported = denial;
        reported.count = 0;
        contents.denials = {reported, denial};
    }
    KernelContents contents;
};

TEST_F(MapWords, NamesWhatTheKernelHolds)
{
    const auto maps = describe_maps(contents, 0);
    EXPECT_EQ(maps.policy_version(), 3U);
    EXPECT_EQ(maps.generation(), 7U);
    EXPECT_THAT(table(maps, "planes").lines(), Contains("active plane: slot 0"));
    EXPECT_THAT(table(maps, "planes").lines(), Contains("shadow plane: none: nothing is judged"));
    EXPECT_THAT(table(maps, "planes").lines(), Contains(HasSubstr("quarantine")));
    EXPECT_THAT(table(maps, "rules").lines(), Contains(HasSubstr("web/in")));
    EXPECT_THAT(table(maps, "peers").lines(), Contains("192.0.2.1 is api-1 (identity 1, segment api, role=api)"));
    EXPECT_THAT(table(maps, "processes").lines(), Contains("bit 1: unit=nginx.service"));
    EXPECT_THAT(table(maps, "listeners").lines(), Contains(HasSubstr("tcp 192.0.2.9:80 heard by nginx (pid 42")));
    EXPECT_THAT(table(maps, "conversations").lines(), Contains(HasSubstr("peer 192.0.2.53:53, by resolver")));
    EXPECT_THAT(table(maps, "conversations").lines(), Contains(HasSubstr("last 5 s ago")));
    EXPECT_THAT(table(maps, "denials").lines(), ElementsAre(HasSubstr("12 more")));
}

TEST_F(MapWords, TellsSoManyLinesAndCountsTheOthers)
{
    contents.listeners.resize(30, contents.listeners.front());
    const auto maps = describe_maps(contents, 4);
    EXPECT_EQ(table(maps, "listeners").entries(), 30U);
    EXPECT_EQ(table(maps, "listeners").lines_size(), 4);
}

TEST_F(MapWords, WithoutAPolicyThereIsStillWhatTheKernelSaw)
{
    contents.view.reset();
    const auto maps = describe_maps(contents, 0);
    EXPECT_EQ(table(maps, "listeners").entries(), 1U);
}

} // namespace
} // namespace bulkhead::agent
