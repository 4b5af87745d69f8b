// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/capacity_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(CapacityWatch, TellsOnceWhenATableIsNearlyFull)
{
    CapacityWatch watch;
    EXPECT_THAT(watch.look({{"listeners", 79, 100}}), IsEmpty());
    EXPECT_THAT(watch.look({{"listeners", 80, 100}}), ElementsAre("listeners: 80 of 100 in use"));
    EXPECT_THAT(watch.look({{"listeners", 95, 100}}), IsEmpty());
    EXPECT_THAT(watch.standing(), ElementsAre("listeners: 95 of 100 in use"));
    EXPECT_THAT(watch.look({{"listeners", 75, 100}}), IsEmpty());
    EXPECT_THAT(watch.standing(), ElementsAre("listeners: 75 of 100 in use")) << "not room yet";
    EXPECT_THAT(watch.look({{"listeners", 69, 100}}), IsEmpty());
    EXPECT_THAT(watch.standing(), IsEmpty());
    EXPECT_THAT(watch.look({{"listeners", 80, 100}}), testing::SizeIs(1)) << "told anew";
}

TEST(CapacityWatch, WhatIsMadeToMeasureIsNotNearlyFull)
{
    CapacityWatch watch;
    EXPECT_THAT(watch.look({{"active_peers", 100, 100, true}, {"empty", 0, 0}}), IsEmpty());
}

} // namespace
} // namespace bulkhead::agent
