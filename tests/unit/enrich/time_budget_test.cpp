// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/time_budget.h"

#include "tests/harness/fake_clock.h"

#include <gtest/gtest.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

TEST(TimeBudget, IsSpentByOneAndByAllForAWhile)
{
    test::FakeClock clock;
    TimeBudget budget(clock, {100ms, 250ms, 10s});
    budget.spend(1, 99ms);
    EXPECT_TRUE(budget.has_some_for(1));
    budget.spend(1, 1ms);
    EXPECT_FALSE(budget.has_some_for(1));
    EXPECT_TRUE(budget.has_some_for(2));
    budget.spend(2, 80ms);
    budget.spend(3, 80ms);
    EXPECT_FALSE(budget.has_some_for(4)) << "who has many users has no more for it";
    clock.advance(10s);
    EXPECT_TRUE(budget.has_some_for(1));
    EXPECT_TRUE(budget.has_some_for(4));
}

} // namespace
} // namespace bulkhead::agent
