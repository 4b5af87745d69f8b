// SPDX-License-Identifier: Apache-2.0
#include "common/core/unique_fd.h"

#include <gtest/gtest.h>

#include <fcntl.h>

namespace bulkhead {
namespace {

int fresh()
{
    return ::open("/dev/null", O_RDONLY | O_CLOEXEC);
}

bool is_open(int fd)
{
    return ::fcntl(fd, F_GETFD) != -1;
}

TEST(UniqueFd, ClosesWhatItOwns)
{
    const int raw = fresh();
    {
        const UniqueFd fd(raw);
        EXPECT_TRUE(fd);
        EXPECT_TRUE(is_open(raw));
    }
    EXPECT_FALSE(is_open(raw));
    EXPECT_FALSE(UniqueFd());
}

TEST(UniqueFd, MovesClosesTheOldOne)
{
    const int first = fresh();
    const int second = fresh();
    UniqueFd a(first);
    UniqueFd b(second);
    a = std::move(b);
    EXPECT_FALSE(is_open(first));
    EXPECT_EQ(a.get(), second);
    UniqueFd c(std::move(a));
    EXPECT_TRUE(is_open(second));
    EXPECT_EQ(c.get(), second);
}

TEST(UniqueFd, AssignedToItselfKeepsIt)
{
    UniqueFd fd(fresh());
    auto& same = fd;
    fd = std::move(same);
    EXPECT_TRUE(is_open(fd.get()));
}

TEST(UniqueFd, ReleaseGivesItAway)
{
    UniqueFd fd(fresh());
    const UniqueFd taken(fd.release());
    EXPECT_FALSE(fd);
    EXPECT_TRUE(is_open(taken.get()));
}

} // namespace
} // namespace bulkhead
