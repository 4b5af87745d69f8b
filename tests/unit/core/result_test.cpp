// SPDX-License-Identifier: Apache-2.0
#include "common/core/result.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>

namespace bulkhead {
namespace {

Result<std::unique_ptr<int>> number(bool good)
{
    if (!good)
        return fail(ErrorKind::refused, "no {}", "number");
    return std::make_unique<int>(7);
}

Result<int> tried(bool good)
{
    BULKHEAD_TRY(const auto value, number(good));
    BULKHEAD_TRY(const auto again, number(good));
    return *value + *again;
}

Status checked(bool good, bool& passed)
{
    BULKHEAD_CHECK(number(good));
    passed = true;
    return {};
}

TEST(Result, ErrorsPassThrough)
{
    EXPECT_EQ(tried(true).value(), 14);
    ASSERT_FALSE(tried(false).has_value());
    EXPECT_EQ(tried(false).error().kind, ErrorKind::refused);
    EXPECT_EQ(tried(false).error().message, "no number");
    bool passed = false;
    EXPECT_FALSE(checked(false, passed).has_value());
    EXPECT_FALSE(passed);
    EXPECT_TRUE(checked(true, passed).has_value());
    EXPECT_TRUE(passed);
}

TEST(Result, WithinKeepsKindAndMend)
{
    const auto error = Error{ErrorKind::unreachable, "refused", "start it"}.within("controller");
    EXPECT_EQ(error.message, "controller: refused");
    EXPECT_EQ(error.kind, ErrorKind::unreachable);
    EXPECT_EQ(error.mend, "start it");
}

TEST(Result, ErrnoIsSpelledOut)
{
    EXPECT_EQ(fail_errno(ENOENT, "open /x").value().message, "open /x: No such file or directory");
}

TEST(ExitCode, IsWhatTheManualPromises)
{
    EXPECT_EQ(exit_code(ErrorKind::failed), 1);
    EXPECT_EQ(exit_code(ErrorKind::usage), 2);
    EXPECT_EQ(exit_code(ErrorKind::invalid), 3);
    EXPECT_EQ(exit_code(ErrorKind::unreachable), 4);
    EXPECT_EQ(exit_code(ErrorKind::refused), 5);
}

} // namespace
} // namespace bulkhead
