// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/losses.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

TEST(Losses, NeighbouringRangesAreToldTogether)
{
    Losses losses;
    losses.add_range({1, 10, 10});
    losses.add_range({11, 20, 15});
    const auto lost = losses.take();
    EXPECT_EQ(lost.from_seq(), 1U);
    EXPECT_EQ(lost.to_seq(), 20U);
    EXPECT_EQ(lost.count(), 25U);
    EXPECT_TRUE(losses.empty());
}

TEST(Losses, OthersAreToldApart)
{
    Losses losses;
    losses.add_range({30, 40, 11});
    losses.add_range({1, 10, 10});
    losses.add_unnumbered(3);
    EXPECT_EQ(losses.take().where(), "agent");
    EXPECT_EQ(losses.take().from_seq(), 30U);
    EXPECT_EQ(losses.take().from_seq(), 1U);
    EXPECT_TRUE(losses.empty());
}

TEST(Losses, WhatCouldNotBeToldIsKept)
{
    Losses losses;
    losses.add_unnumbered(2);
    losses.add_range({5, 6, 2});
    losses.put_back(losses.take());
    losses.add_unnumbered(1);
    EXPECT_EQ(losses.take().count(), 3U);
    losses.put_back(losses.take());
    EXPECT_EQ(losses.take().to_seq(), 6U);
}

TEST(Losses, MemoryIsBoundedAndTheCountStaysRight)
{
    Losses losses;
    for (std::uint64_t i = 0; i < 10'000; ++i)
        losses.add_range({10 * i + 1, 10 * i + 2, 2});
    std::uint64_t count = 0;
    int gaps = 0;
    for (; !losses.empty(); ++gaps)
        count += losses.take().count();
    EXPECT_EQ(count, 20'000U);
    EXPECT_LE(gaps, 64);
}

} // namespace
} // namespace bulkhead::agent
