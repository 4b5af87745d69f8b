// SPDX-License-Identifier: Apache-2.0
#include "common/core/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead {
namespace {

class Log : public testing::Test {
protected:
    ~Log() override { set_log_level(LogLevel::info); }

    template <typename Write>
    static std::string captured(Write write)
    {
        testing::internal::CaptureStderr();
        write();
        return testing::internal::GetCapturedStderr();
    }
};

TEST_F(Log, NamesOfLevels)
{
    EXPECT_EQ(parse_log_level("error"), LogLevel::error);
    EXPECT_EQ(parse_log_level("warning"), LogLevel::warning);
    EXPECT_EQ(parse_log_level("info"), LogLevel::info);
    EXPECT_EQ(parse_log_level("debug"), LogLevel::debug);
    EXPECT_EQ(parse_log_level("Info"), std::nullopt);
    EXPECT_EQ(parse_log_level(""), std::nullopt);
}

TEST_F(Log, WhatIsBelowTheThresholdIsNotWritten)
{
    EXPECT_EQ(captured([] { log_debug("quiet"); }), "");
    set_log_level(LogLevel::error);
    EXPECT_EQ(captured([] { log_warning("quiet"); }), "");
    EXPECT_FALSE(log_enabled(LogLevel::warning));
    EXPECT_THAT(captured([] { log_error("loud {}", 1); }), testing::HasSubstr("loud 1"));
}

TEST_F(Log, ControlCharactersCannotForgeALine)
{
    const auto text = captured([] { log_info("{}", "a\nb\r\tc\x1b[31m\x7f\x01"); });
    EXPECT_THAT(text, testing::EndsWith("a?b??c?[31m??\n"));
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
}

TEST_F(Log, TextOfOtherScriptsStays)
{
    EXPECT_THAT(captured([] { log_info("{}", "größe"); }), testing::EndsWith("größe\n"));
}

} // namespace
} // namespace bulkhead
