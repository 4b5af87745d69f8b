// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/bpf/guard_fixture.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

namespace bulkhead::test {

// A container's network: a namespace behind the guarded host, which routes for it.
class ForwardingTest : public GuardTest {
protected:
    void SetUp() override
    {
        GuardTest::SetUp();
        if (IsSkipped() || HasFatalFailure())
            return;
        behind_.emplace();
        const std::string there = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(behind_->fd());
        ip(world_->wire.guarded, "link add inner type veth peer name outer netns " + there);
        ip(world_->wire.guarded, "addr add 10.78.0.1/24 dev inner");
        ip(world_->wire.guarded, "link set inner up");
        ip(*behind_, "link set lo up");
        ip(*behind_, "addr add 10.78.0.2/24 dev outer");
        ip(*behind_, "link set outer up");
        ip(*behind_, "route add default via 10.78.0.1");
        guarded([&] { ASSERT_TRUE(run("sysctl -qw net.ipv4.ip_forward=1")); });
        ASSERT_TRUE(datapath_->follow_interfaces());
        peer([&] {
            http_ = listening({"10.77.0.2", 80});
            only_out_ = listening({"10.77.0.2", 81});
            only_in_ = listening({"10.77.0.2", 82});
        });
    }
    [[nodiscard]] static bool run(const std::string& command)
    {
        return std::system(command.c_str()) == 0; // NOLINT(cert-env33-c): with our own words
    }
    [[nodiscard]] int from_behind(std::uint16_t port) const
    {
        int error = -1;
        run_in(*behind_, world_->elsewhere, [&] { error = tcp_error({"10.77.0.2", port}); });
        return error;
    }
    [[nodiscard]] bool translates(const std::string& hook, const std::string& rule) const
    {
        bool done = false;
        guarded([&] {
            done = run("nft add table ip n && nft 'add chain ip n c { type nat hook " + hook + " priority 0; }' && " +
                       "nft add rule ip n c " + rule);
        });
        return done;
    }
    static TestPolicy only_http()
    {
        return closed()
            .allow(inbound, "10.78.0.2", "tcp/80")
            .allow(outbound, "10.77.0.2", "tcp/80")
            .allow(outbound, "10.77.0.2", "tcp/81")
            .allow(inbound, "10.78.0.2", "tcp/82");
    }

    std::optional<Netns> behind_;
    UniqueFd http_, only_out_, only_in_;
};

} // namespace bulkhead::test
