// SPDX-License-Identifier: Apache-2.0
#include "controller/daemon/config.h"

#include <gtest/gtest.h>

namespace bulkhead::controller {
namespace {

TEST(ControllerConfigFile, EveryKeyIsRead)
{
    const auto config = parse_config("c.yaml", "state_dir: /srv/b\ngrpc_listen: '[::]:9'\nstore: sqlite:/srv/x.db\n"
                                               "log_level: debug\n");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->state_dir, "/srv/b");
    EXPECT_EQ(config->grpc_listen, "[::]:9");
    EXPECT_EQ(database_path(*config), "/srv/x.db");
    EXPECT_EQ(config->log_level, LogLevel::debug);
    EXPECT_TRUE(validate(*config));
}

TEST(ControllerConfigFile, NothingInItMeansTheDefaults)
{
    for (const auto* text : {"", "# comment\n", "---\n"}) {
        const auto config = parse_config("c.yaml", text);
        ASSERT_TRUE(config) << config.error().message;
        EXPECT_EQ(config->grpc_listen, "0.0.0.0:7443");
        EXPECT_EQ(database_path(*config), "/var/lib/bulkhead-controller/controller.db");
    }
}

TEST(ControllerConfigFile, EveryErrorIsReportedWithItsPlace)
{
    const auto config = parse_config("c.yaml", "state_dir: /x\nfoo: 1\nlog_level: loud\nstore: mysql:x\nstate_dir: /y\n"
                                               "grpc_listen: [a]\n");
    ASSERT_FALSE(config);
    EXPECT_EQ(config.error().kind, ErrorKind::invalid);
    for (const auto* place : {"c.yaml:2:1: ", "c.yaml:3:12: ", "c.yaml:4:8: ", "c.yaml:5:1: ", "c.yaml:6:14: "})
        EXPECT_NE(config.error().message.find(place), std::string::npos) << place << " in\n" << config.error().message;
}

TEST(ControllerConfigFile, NonsenseIsAnErrorAndNoException)
{
    for (const auto* text : {",", "[a],b", "a: [", "[]", "x", "a: b: c", "a: 1\n---\nb: 2\n", "? {a: b}\n: c\n"}) {
        const auto config = parse_config("c.yaml", text);
        ASSERT_FALSE(config) << text;
        EXPECT_EQ(config.error().kind, ErrorKind::invalid);
        EXPECT_NE(config.error().message.find("c.yaml:"), std::string::npos) << config.error().message;
    }
}

TEST(ListenAddress, HostsAndPorts)
{
    EXPECT_EQ(parse_listen_address("[::1]:0")->host, "::1");
    EXPECT_EQ(parse_listen_address("0.0.0.0:7443")->port, "7443");
    for (const auto* bad : {"", ":1", "1", "a:", "a:65536", "::1:5", "[::1]", "a:-1", "a:1x"})
        EXPECT_FALSE(parse_listen_address(bad)) << bad;
}

} // namespace
} // namespace bulkhead::controller
