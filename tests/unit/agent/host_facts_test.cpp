// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/host_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(ResolvConf, NamesItsServers)
{
    EXPECT_THAT(
        parse_resolv_conf("# nameserver 192.0.2.9\n"
                          "search example.org\n"
                          "nameserver 192.0.2.53\n"
                          "  nameserver\t2001:db8::53  # second\n"
                          "nameserver fe80::1%eth0\n"
                          "nameserver 192.0.2.53\n"
                          "nameserver nonsense\nnameserver\nnameservers 192.0.2.8\n"),
        ElementsAre(*IpAddress::parse("192.0.2.53"), *IpAddress::parse("2001:db8::53"), *IpAddress::parse("fe80::1")));
    EXPECT_THAT(parse_resolv_conf(""), IsEmpty());
}

TEST(OwnAddresses, LeaveLoopbackAndLinkLocalOut)
{
    const auto addresses = own_addresses();
    ASSERT_TRUE(addresses);
    for (const auto& address : *addresses) {
        EXPECT_FALSE(address.is_loopback());
        EXPECT_FALSE(Cidr::parse("fe80::/10")->contains(address));
    }
}

TEST(BootId, IsThisBoots)
{
    const auto id = read_boot_id();
    ASSERT_TRUE(id);
    EXPECT_EQ(id->size(), 36U);
}

// The C library looks names up in threads of its own making, which ThreadSanitizer does not see begin: it ends with a
// segmentation fault in them.
class NameLookupTest : public testing::Test {
protected:
    void SetUp() override
    {
#ifdef BULKHEAD_THREAD_SANITIZER
        GTEST_SKIP() << "ThreadSanitizer cannot run it";
#endif
    }
};

TEST_F(NameLookupTest, AnswersLaterAndOnce)
{
    NameLookup lookup;
    EXPECT_FALSE(lookup.poll());
    lookup.start("192.0.2.1"); // a literal needs no resolver
    std::optional<Result<std::vector<IpAddress>>> answer;
    for (int i = 0; i < 500 && !(answer = lookup.poll()); ++i)
        std::this_thread::sleep_for(10ms);
    ASSERT_TRUE(answer && *answer);
    EXPECT_THAT(**answer, ElementsAre(*IpAddress::parse("192.0.2.1")));
    EXPECT_FALSE(lookup.poll());
}

TEST_F(NameLookupTest, MayBeDroppedWhileItRuns)
{
    NameLookup lookup;
    lookup.start("does-not-exist.invalid");
}

} // namespace
} // namespace bulkhead::agent
