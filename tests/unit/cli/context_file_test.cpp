// SPDX-License-Identifier: Apache-2.0
#include "cli/peers/context_file.h"
#include "cli_session.h"

#include <cstdlib>

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;

class ContextFile : public CliSession {};

TEST_F(ContextFile, CurrentContextIsChosen)
{
    const auto pair = self_signed();
    const auto context = read_context(
        write("good.yaml",
              "current: second\ncontexts:\n- {name: first, controller: 'a:1', ca: A, certificate: B, key: C}\n"
              "- name: second\n  controller: b:2\n" +
                  block("ca", pair.certificate) + block("certificate", pair.certificate) + block("key", pair.key)));
    ASSERT_TRUE(context) << context.error().message;
    EXPECT_EQ(context->name, "second");
    EXPECT_EQ(context->controller, "b:2");
    EXPECT_EQ(context->ca, pair.certificate);
}

// Else it would look like a controller that cannot be reached.
TEST_F(ContextFile, BrokenCertificateIsToldBeforeTheNetworkIsTried)
{
    const auto pair = self_signed();
    const auto broken =
        read_context(write("broken.yaml", "current: c\ncontexts:\n- name: c\n  controller: b:2\n" +
                                              block("ca", pair.certificate) + "  certificate: nonsense\n  key: x\n"));
    ASSERT_FALSE(broken);
    EXPECT_EQ(broken.error().kind, ErrorKind::invalid);
    EXPECT_THAT(broken.error().message, HasSubstr("certificate"));
}

TEST_F(ContextFile, WhatIsWrongIsSaidWithItsPlace)
{
    for (const auto& [text, part] : std::vector<std::pair<const char*, const char*>>{
             {"", "no list of contexts"},
             {"[1]", "no list of contexts"},
             {"contexts: 5", "no list of contexts"},
             {"current: x\ncontexts: []", "'x'"},
             {"current: x\ncontexts: [1, {name: y}]", "'x'"},
             {"current: x\ncontexts: [{name: x, controller: 'a:1'}]", "needs controller, ca, certificate and key"},
             {"a: [", "bad.yaml:"}}) {
        const auto context = read_context(write("bad.yaml", text));
        ASSERT_FALSE(context) << text;
        EXPECT_EQ(context.error().kind, ErrorKind::invalid) << text;
        EXPECT_THAT(context.error().message, HasSubstr(part));
        EXPECT_THAT(context.error().message, HasSubstr("bad.yaml"));
        EXPECT_FALSE(context.error().mend.empty());
    }
}

TEST_F(ContextFile, MissingFileSaysHowToNameOne)
{
    const auto context = read_context("/nonexistent/config.yaml");
    ASSERT_FALSE(context);
    EXPECT_EQ(context.error().kind, ErrorKind::invalid);
    EXPECT_THAT(context.error().mend, HasSubstr("--config"));
}

TEST_F(ContextFile, DefaultPlaceFollowsTheEnvironment)
{
    ::setenv("HOME", "/home/alice", 1);
    ::unsetenv("XDG_CONFIG_HOME");
    ::unsetenv("BULKHEAD_CONFIG");
    EXPECT_EQ(default_context_path(), "/home/alice/.config/bulkhead/config.yaml");
    ::setenv("XDG_CONFIG_HOME", "/xdg", 1);
    EXPECT_EQ(default_context_path(), "/xdg/bulkhead/config.yaml");
    ::setenv("BULKHEAD_CONFIG", "/mine", 1);
    EXPECT_EQ(default_context_path(), "/mine");
    ::unsetenv("BULKHEAD_CONFIG");
    ::unsetenv("XDG_CONFIG_HOME");
}

} // namespace
} // namespace bulkhead::cli
