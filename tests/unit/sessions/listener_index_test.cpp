// SPDX-License-Identifier: Apache-2.0
#include "agent/sessions/listener_index.h"

#include "walked_sockets.h"

#include <gtest/gtest.h>

#include <vector>

namespace bulkhead::agent {
namespace {

TEST(ListenerIndex, KeepsNamespacesApart)
{
    auto elsewhere = listener("0.0.0.0", 80, 2);
    elsewhere.socket.netns = 8;
    const std::vector<WalkedSocket> sockets{listener("0.0.0.0", 80, 1), elsewhere};
    const ListenerIndex index(sockets);
    EXPECT_EQ(index.find(0, IPPROTO_TCP, address("10.0.0.1"), 80)->owner.pid, 1U);
    EXPECT_EQ(index.find(8, IPPROTO_TCP, address("10.0.0.1"), 80)->owner.pid, 2U);
    EXPECT_EQ(index.find(9, IPPROTO_TCP, address("10.0.0.1"), 80), nullptr);
}

TEST(ListenerIndex, PrefersTheExactAddressAndKeepsFamiliesApart)
{
    const std::vector<WalkedSocket> sockets{listener("10.0.0.1", 80, 1), listener("0.0.0.0", 80, 2),
                                            listener("::", 80, 3), listener("::", 81, 4), listener("::", 82, 5, 1)};
    const ListenerIndex index(sockets);
    const auto owner = [&index](const std::string& local, std::uint16_t port) {
        const auto* found = index.find(0, IPPROTO_TCP, address(local), port);
        return found == nullptr ? 0 : found->owner.pid;
    };
    EXPECT_EQ(owner("10.0.0.1", 80), 1U);
    EXPECT_EQ(owner("10.0.0.9", 80), 2U);
    EXPECT_EQ(owner("2001:db8::1", 80), 3U);
    EXPECT_EQ(owner("10.0.0.1", 81), 4U);
    EXPECT_EQ(owner("10.0.0.1", 82), 0U); // v6only
    EXPECT_EQ(owner("2001:db8::1", 82), 5U);
    EXPECT_EQ(index.find(0, IPPROTO_UDP, address("10.0.0.1"), 80), nullptr);
}

} // namespace
} // namespace bulkhead::agent
