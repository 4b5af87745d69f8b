// SPDX-License-Identifier: Apache-2.0
#include "agent/config/command_line.h"
#include "tests/harness/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

namespace bulkhead::agent {
namespace {

using test::TempDir;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Error error_of(const std::string& text)
{
    const auto parsed = parse_agent_config("agent.yaml", text);
    EXPECT_FALSE(parsed) << text;
    return parsed ? Error{} : parsed.error();
}

Result<std::optional<Invocation>> invoke(std::vector<const char*> arguments, std::ostream& out)
{
    arguments.insert(arguments.begin(), "bulkheadd");
    return read_invocation(static_cast<int>(arguments.size()), arguments.data(), out);
}

Result<std::optional<Invocation>> invoke(const std::vector<const char*>& arguments)
{
    std::ostringstream out;
    return invoke(arguments, out);
}

TEST(AgentConfig, ReadsEveryKey)
{
    const auto config = parse_agent_config("agent.yaml", R"(
hostname: web-1
labels: {app: shop, role: web}
cgroup: /sys/fs/cgroup/web
controller: controller.example:7443
join_file: /etc/bulkhead/join-token
state_dir: /srv/state
socket: /srv/agent.sock
pin_dir: /sys/fs/bpf/other
log_level: debug
spool: {max_bytes: 2097152}
metrics: {listen: "127.0.0.1:9464"}
failsafe:
  management: [192.0.2.0/24, "2001:db8::/32"]
  resolvers: [192.0.2.53]
  ntp: [192.0.2.123]
  dhcp: false
)");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->hostname, "web-1");
    EXPECT_EQ(config->labels, (policy::Labels{{"app", "shop"}, {"role", "web"}}));
    EXPECT_EQ(config->cgroup, "/sys/fs/cgroup/web");
    EXPECT_EQ(config->controller, "controller.example:7443");
    EXPECT_EQ(config->join_file, "/etc/bulkhead/join-token");
    EXPECT_EQ(config->state_dir, "/srv/state");
    EXPECT_EQ(config->socket, "/srv/agent.sock");
    EXPECT_EQ(config->pin_dir, "/sys/fs/bpf/other");
    EXPECT_EQ(config->log_level, LogLevel::debug);
    EXPECT_EQ(config->spool_max_bytes, 2097152U);
    EXPECT_EQ(config->metrics_listen, "127.0.0.1:9464");
    EXPECT_TRUE(config->failsafe.management_given);
    EXPECT_THAT(config->failsafe.management, ::testing::SizeIs(2));
    EXPECT_THAT(*config->failsafe.resolvers, ElementsAre(*IpAddress::parse("192.0.2.53")));
    EXPECT_THAT(config->failsafe.ntp, ElementsAre(*IpAddress::parse("192.0.2.123")));
    EXPECT_FALSE(config->failsafe.dhcp);
}

TEST(AgentConfig, AnEmptyFileIsAllDefaults)
{
    const auto config = parse_agent_config("agent.yaml", "# nothing\n");
    ASSERT_TRUE(config);
    EXPECT_EQ(config->state_dir, "/var/lib/bulkhead");
    EXPECT_FALSE(config->failsafe.resolvers);
    EXPECT_FALSE(config->failsafe.management_given);
}

TEST(AgentConfig, AnUnknownKeyHasItsPlaceAndTheKnownOnes)
{
    const auto error = error_of("hostname: a\nhostnme: b\n");
    EXPECT_EQ(error.kind, ErrorKind::invalid);
    EXPECT_THAT(error.message, HasSubstr("agent.yaml:2:1: error: unknown key 'hostnme'"));
    EXPECT_THAT(error.message, HasSubstr("hostname"));
    EXPECT_THAT(error_of("failsafe:\n  dcp: true\n").message, HasSubstr("agent.yaml:2:3: error: unknown key 'dcp'"));
}

TEST(AgentConfig, EveryErrorIsNamed)
{
    const auto error = error_of("log_level: loud\nspool: {max_bytes: -1}\nfailsafe: {management: [10.0.0.1/8]}\n");
    EXPECT_THAT(error.message, HasSubstr("agent.yaml:1:12: error: 'loud' is no log level"));
    EXPECT_THAT(error.message, HasSubstr("agent.yaml:2:20: error: spool.max_bytes"));
    EXPECT_THAT(error.message, HasSubstr("agent.yaml:3:25: error: '10.0.0.1/8' has host bits set"));
}

TEST(AgentConfig, WrongShapesAreErrorsNotExceptions)
{
    for (const char* text : {"- a\n", "hostname: [a]\n", "labels: [a]\n", "labels: {a: {b: c}}\n", "hostname: {\n",
                             "failsafe: {resolvers: one}\n", "failsafe: {ntp: [pool.example]}\n", "hostname:\n",
                             "failsafe: {dhcp: perhaps}\n", "a: *b\n", "---\nhostname: a\n---\nhostname: b\n",
                             "hostname: a\nhostname: b\n", ",", ", a", "hostname: a\n,\n", "labels: {a: b, a: c}\n",
                             "{[a]: b}\n", "\"\t\xff\": 1\n"})
        EXPECT_THAT(error_of(text).message, HasSubstr("agent.yaml:")) << text;
}

TEST(AgentConfig, DeepNestingIsAnError)
{
    EXPECT_EQ(error_of("a: " + std::string(100'000, '[')).kind, ErrorKind::invalid);
}

TEST(CommandLine, FlagsOverrideTheFile)
{
    const TempDir dir;
    const auto file = dir.file("agent.yaml", "hostname: one\nlabels: {app: shop, role: web}\ncontroller: c:7443\n");
    const auto invocation = invoke({"--config", file.c_str(), "--hostname", "two", "--label", "role=db", "--policy-dir",
                                    "/etc/policies/", "--log-level", "debug"});
    ASSERT_TRUE(invocation) << invocation.error().message;
    const auto& config = (*invocation)->config;
    EXPECT_EQ(config.hostname, "two");
    EXPECT_EQ(config.labels, (policy::Labels{{"app", "shop"}, {"role", "db"}}));
    EXPECT_EQ(config.policy_dir, "/etc/policies");
    EXPECT_EQ(config.controller, ""); // one source of policy replaces the other
    EXPECT_EQ(config.log_level, LogLevel::debug);
    EXPECT_EQ((*invocation)->action, Action::run);
    EXPECT_EQ(config.failsafe.management.size(), 2U); // everybody, unless narrowed
}

TEST(CommandLine, WrongUsageIsTwoAndWrongConfigurationThree)
{
    for (const auto& arguments : std::vector<std::vector<const char*>>{{"--nonsense"},
                                                                       {"--label", "x"},
                                                                       {"--log-level", "loud"},
                                                                       {"--controller", "nowhere"},
                                                                       {"--join", "a", "--join-file", "b"},
                                                                       {"--check", "--detach"},
                                                                       {"stray"}}) {
        const auto invocation = invoke(arguments);
        ASSERT_FALSE(invocation) << arguments.front();
        EXPECT_EQ(invocation.error().kind, ErrorKind::usage) << arguments.front();
    }
    for (const auto& arguments : std::vector<std::vector<const char*>>{{"--config", "/does/not/exist"},
                                                                       {"--config", "/"},
                                                                       {"--join-file", "/does/not/exist"},
                                                                       {"--hostname", "a b"},
                                                                       {"--controller", "a:1", "--policy-dir", "/x"}}) {
        const auto invocation = invoke(arguments);
        ASSERT_FALSE(invocation) << arguments.front();
        EXPECT_EQ(invocation.error().kind, ErrorKind::invalid) << arguments.front();
    }
}

TEST(CommandLine, DetachingNeedsNoValidFile)
{
    const TempDir dir;
    const auto file =
        dir.file("agent.yaml", "guard: sometimes\npin_dir: /sys/fs/bpf/other\nstate_dir: /srv/bh\nno-key: 1\n");
    EXPECT_EQ(invoke({"--config", file.c_str()}).error().kind, ErrorKind::invalid);
    const auto detach = invoke({"--config", file.c_str(), "--detach", "--cgroup", "/sys/fs/cgroup/x"});
    ASSERT_TRUE(detach) << detach.error().message;
    EXPECT_EQ((*detach)->action, Action::detach);
    EXPECT_EQ((*detach)->config.pin_dir, "/sys/fs/bpf/other");
    EXPECT_EQ((*detach)->config.state_dir, "/srv/bh");
    EXPECT_EQ((*detach)->config.cgroup, "/sys/fs/cgroup/x");
    for (const char* text : {"a: [", "", "- x\n", "pin_dir: {a: 1}\n", "\xff\xfe\x00"}) {
        const auto odd = dir.file("odd.yaml", text);
        const auto anyway = invoke({"--config", odd.c_str(), "--detach"});
        ASSERT_TRUE(anyway) << text;
        EXPECT_EQ((*anyway)->config.pin_dir, AgentConfig{}.pin_dir) << text;
    }
}

TEST(CommandLine, HelpAndVersionPrintAndLeave)
{
    std::ostringstream help, version;
    const auto helped = invoke({"--help"}, help);
    ASSERT_TRUE(helped);
    EXPECT_FALSE(*helped);
    EXPECT_THAT(help.str(), HasSubstr("--policy-dir"));
    ASSERT_TRUE(invoke({"--version"}, version));
    EXPECT_THAT(version.str(), HasSubstr("bulkheadd "));
}

TEST(CommandLine, TheJoinTokenComesFromAFlagAFileOrTheEnvironment)
{
    const TempDir dir;
    const auto file = dir.file("token", "  secret-of-file \n");
    EXPECT_EQ((*invoke({"--join-file", file.c_str()}))->join_token, "secret-of-file");
    ::setenv("BULKHEAD_JOIN", "secret-of-environment", 1);
    EXPECT_EQ((*invoke({"--check"}))->join_token, "secret-of-environment");
    EXPECT_EQ((*invoke({"--join", "secret-of-flag"}))->join_token, "secret-of-flag");
    ::unsetenv("BULKHEAD_JOIN");
    EXPECT_EQ((*invoke({"--check"}))->join_token, "");
}

TEST(CommandLine, TheJoinFileOfTheConfigurationMayBeGoneOrUnreadable)
{
    const TempDir dir;
    const auto token = dir.file("token", "secret-of-file\n");
    const auto config = dir.file("agent.yaml", "controller: controller.example:7443\njoin_file: " + token + "\n");
    EXPECT_EQ((*invoke({"--config", config.c_str()}))->join_token, "secret-of-file");
    EXPECT_EQ((*invoke({"--config", config.c_str(), "--join", "secret-of-flag"}))->join_token, "secret-of-flag");
    std::filesystem::remove(token);
    EXPECT_EQ((*invoke({"--config", config.c_str()}))->join_token, "");
    // What an enrolled host does not need does not keep it from enforcing.
    std::filesystem::create_directory(token);
    const auto without = invoke({"--config", config.c_str()});
    ASSERT_TRUE(without && *without);
    EXPECT_EQ((*without)->join_token, "");
    EXPECT_FALSE(invoke({"--config", config.c_str(), "--check"}));
    const auto relative = dir.file("relative.yaml", "join_file: token\n");
    EXPECT_FALSE(invoke({"--config", relative.c_str()}));
}

TEST(HostPortText, IsHostColonPort)
{
    EXPECT_EQ(parse_host_port("a.example:7443")->host, "a.example");
    EXPECT_EQ(parse_host_port("[2001:db8::1]:7443")->host, "2001:db8::1");
    EXPECT_EQ(parse_host_port("[2001:db8::1]:7443")->port, 7443);
    for (const char* text : {"", ":1", "a", "a:", "a:0", "a:70000", "a:1x", "2001:db8::1:7443", "[]:1"})
        EXPECT_FALSE(parse_host_port(text)) << text;
}

TEST(AgentConfig, GuardAndRefusalAreChosen)
{
    const auto config = parse_agent_config(
        "a.yaml", "guard: auto\nrefuse: silent\nxdp: never\ncgroup_ingress: always\ninterfaces: [eth0, eth1]\n");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->guard, AttachMode::automatic);
    EXPECT_EQ(config->refuse, RefuseMode::silent);
    EXPECT_EQ(config->xdp, XdpMode::never);
    EXPECT_EQ(AgentConfig{}.xdp, XdpMode::automatic);
    EXPECT_EQ(config->cgroup_ingress, AttachMode::always);
    EXPECT_EQ(AgentConfig{}.cgroup_ingress, AttachMode::automatic);
    EXPECT_EQ(config->interfaces, (std::vector<std::string>{"eth0", "eth1"}));
    const auto wrong = parse_agent_config("a.yaml", "guard: sometimes\n");
    ASSERT_FALSE(wrong);
    EXPECT_NE(wrong.error().message.find("a.yaml:1:8"), std::string::npos) << wrong.error().message;
    AgentConfig silent;
    silent.refuse = RefuseMode::silent;
    silent.guard = AttachMode::never;
    EXPECT_FALSE(validate(silent));
}

TEST(AgentConfig, AFailsafeIsLeftOutOnlyBySomeoneWhoKnows)
{
    const auto config = parse_agent_config("a.yaml", "failsafe: {without: [ssh], dhcp: [192.0.2.1]}\n");
    ASSERT_TRUE(config) << config.error().message;
    EXPECT_EQ(config->failsafe.dhcp_servers.size(), 1U);
    const auto refused = validate(*config);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("console"), std::string::npos);
    auto known = *config;
    known.failsafe.accept_lock_out = true;
    EXPECT_TRUE(validate(known));
    EXPECT_FALSE(parse_agent_config("a.yaml", "failsafe: {without: [everything]}\n"));
}

} // namespace
} // namespace bulkhead::agent
