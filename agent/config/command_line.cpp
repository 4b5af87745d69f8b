// SPDX-License-Identifier: Apache-2.0
#include "agent/config/command_line.h"

#include "common/core/log.h"
#include "common/core/version.h"

#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <ostream>
#include <tuple>

namespace bulkhead::agent {
namespace {

struct Flags {
    std::string config;
    std::optional<std::string> policy_dir, controller, join, join_file, state_dir, socket, cgroup, hostname, log_level,
        guard, refuse, xdp, cgroup_ingress, metrics_listen;
    std::vector<std::string> labels, interfaces, without_failsafes;
    bool check = false, detach = false, accept_lock_out = false;
};

void declare(CLI::App& app, Flags& flags)
{
    app.set_version_flag("--version", std::string("bulkheadd ") + BULKHEAD_VERSION);
    app.add_option("--config", flags.config, fmt::format("Configuration file (default {})", default_config_path))
        ->type_name("FILE");
    app.add_option("--policy-dir", flags.policy_dir, "Enforce the policy files of this folder, without a controller")
        ->type_name("DIR");
    app.add_option("--controller", flags.controller, "Take policy from this controller")->type_name("HOST:PORT");
    app.add_option("--join", flags.join, "Join token, used once to enrol (or BULKHEAD_JOIN)")->type_name("TOKEN");
    app.add_option("--join-file", flags.join_file, "File that holds the join token")->type_name("FILE");
    app.add_option("--state-dir", flags.state_dir, "Where the agent keeps its state")->type_name("DIR");
    app.add_option("--socket", flags.socket, "Local socket for bulkheadctl --local")->type_name("PATH");
    app.add_option("--cgroup", flags.cgroup, "Enforce only below this cgroup v2 folder (default: the root)")
        ->type_name("PATH");
    app.add_option("--hostname", flags.hostname, "Name of this workload (default: the system's)")->type_name("NAME");
    app.add_option("--label", flags.labels, "Label of this workload; may be repeated")->type_name("k=v");
    app.add_option("--guard", flags.guard, "Judge packets that pass no socket's door: always (default), auto or never")
        ->type_name("MODE");
    app.add_option("--interface", flags.interfaces, "Guard this interface; may be repeated (default: all but loopback)")
        ->type_name("NAME");
    app.add_option("--refuse", flags.refuse, "What a refused attempt from outside gets: reset (default) or silent")
        ->type_name("MODE");
    app.add_option("--xdp", flags.xdp,
                   "Have XDP drop what arrives in a quarantine, where drivers have it: auto or never")
        ->type_name("MODE");
    app.add_option("--cgroup-ingress", flags.cgroup_ingress,
                   "Judge what reaches sockets where no inbound door stands: auto (default), always or never")
        ->type_name("MODE");
    app.add_option("--metrics-listen", flags.metrics_listen, "Answer Prometheus there (default: nowhere)")
        ->type_name("HOST:PORT");
    app.add_option("--without-failsafe", flags.without_failsafes,
                   "Leave out a failsafe: ssh, controller, dns, ntp, dhcp; may be repeated")
        ->type_name("NAME");
    app.add_flag("--accept-lock-out", flags.accept_lock_out,
                 "You know that a host without its failsafes can become unreachable");
    app.add_option("--log-level", flags.log_level, "error, warning, info or debug")->type_name("LEVEL");
    app.add_flag("--check", flags.check, "Validate the configuration and leave");
    auto* detach =
        app.add_flag("--detach", flags.detach, "Remove everything from the kernel: nothing is enforced then");
    detach->excludes("--check");
}

Result<std::string> read_file(const std::string& path)
{
    std::error_code error;
    if (std::filesystem::is_directory(path, error))
        return fail(ErrorKind::invalid, "{}: is a folder, not a file", path);
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::string text{std::istreambuf_iterator<char>(file), {}};
    if (!file.is_open() || file.bad())
        return fail(ErrorKind::invalid, "{}: cannot be read: {}", path,
                    std::generic_category().message(errno == 0 ? EIO : errno));
    return text;
}

// To detach, a file need not be valid: it may be why the admin wants to be rid of all this.
Result<AgentConfig> read_config(const std::string& given, bool to_detach)
{
    if (given.empty()) {
        std::error_code ignored;
        if (!std::filesystem::exists(default_config_path, ignored))
            return AgentConfig{};
    }
    const std::string path = given.empty() ? default_config_path : given;
    BULKHEAD_TRY(const std::string text, read_file(path));
    auto config = parse_agent_config(path, text);
    if (config || !to_detach)
        return config;
    log_warning("{}", config.error().message);
    log_warning("of {} only pin_dir, cgroup and state_dir are used", path);
    return salvage_agent_config(text);
}

Status apply_labels(const std::vector<std::string>& flags, policy::Labels& labels)
{
    for (const auto& text : flags) {
        const auto equals = text.find('=');
        if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
            return fail(ErrorKind::usage, "--label '{}' is not k=v", text);
        labels[text.substr(0, equals)] = text.substr(equals + 1);
    }
    return {};
}

Status apply_flags(const Flags& flags, AgentConfig& config)
{
    const auto over = [](const std::optional<std::string>& flag, std::string& value) {
        if (flag)
            value = *flag;
    };
    // A flag that names one source of policy replaces the other source of the file.
    if (flags.policy_dir && !flags.controller)
        config.controller.clear();
    if (flags.controller && !flags.policy_dir)
        config.policy_dir.clear();
    over(flags.policy_dir, config.policy_dir);
    over(flags.controller, config.controller);
    over(flags.state_dir, config.state_dir);
    over(flags.socket, config.socket);
    over(flags.cgroup, config.cgroup);
    over(flags.hostname, config.hostname);
    over(flags.metrics_listen, config.metrics_listen);
    if (flags.metrics_listen && !flags.metrics_listen->empty() && !parse_host_port(*flags.metrics_listen))
        return fail(ErrorKind::usage, "--metrics-listen '{}' is not HOST:PORT", *flags.metrics_listen);
    if (flags.controller && !flags.controller->empty() && !parse_host_port(*flags.controller))
        return fail(ErrorKind::usage, "--controller '{}' is not HOST:PORT", *flags.controller);
    if (flags.log_level) {
        const auto level = parse_log_level(*flags.log_level);
        if (!level)
            return fail(ErrorKind::usage, "--log-level '{}' is none of error, warning, info, debug", *flags.log_level);
        config.log_level = *level;
    }
    for (const auto& [name, given, into] :
         {std::tuple("guard", &flags.guard, &config.guard),
          std::tuple("cgroup-ingress", &flags.cgroup_ingress, &config.cgroup_ingress)}) {
        if (!*given)
            continue;
        const auto mode = parse_attach_mode(**given);
        if (!mode)
            return fail(ErrorKind::usage, "--{} '{}' is none of always, auto, never", name, **given);
        *into = *mode;
    }
    if (flags.refuse) {
        const auto mode = parse_refuse_mode(*flags.refuse);
        if (!mode)
            return fail(ErrorKind::usage, "--refuse '{}' is none of reset, silent", *flags.refuse);
        config.refuse = *mode;
    }
    if (flags.xdp) {
        const auto mode = parse_xdp_mode(*flags.xdp);
        if (!mode)
            return fail(ErrorKind::usage, "--xdp '{}' is none of auto, never", *flags.xdp);
        config.xdp = *mode;
    }
    for (const auto& name : flags.without_failsafes) {
        if (!risk_without_failsafe(name))
            return fail(ErrorKind::usage, "--without-failsafe '{}' is none of ssh, controller, dns, ntp, dhcp", name);
        config.failsafe.without.push_back(name);
    }
    config.failsafe.accept_lock_out = config.failsafe.accept_lock_out || flags.accept_lock_out;
    if (!flags.interfaces.empty())
        config.interfaces = flags.interfaces;
    return apply_labels(flags.labels, config.labels);
}

// Relative paths are relative to where the command was typed; the daemon itself may be anywhere.
void make_absolute(AgentConfig& config)
{
    for (std::string* path : {&config.policy_dir, &config.state_dir, &config.socket, &config.cgroup}) {
        std::error_code error;
        if (path->empty())
            continue;
        if (auto absolute = std::filesystem::absolute(*path, error); !error) {
            absolute = absolute.lexically_normal();
            *path = (absolute.has_filename() ? absolute : absolute.parent_path()).string();
        }
    }
}

// The file that the configuration names is there from before the enrolment to some time after it. A host that is
// enrolled needs none, so one that cannot be read is no reason not to enforce; a host that is not will say that it has
// none.
Result<std::string> read_configured_token(const std::string& path, bool only_check)
{
    std::error_code error;
    if (path.empty() || (!std::filesystem::exists(path, error) && !error))
        return std::string();
    auto text = read_file(path);
    if (text || only_check)
        return text;
    log_warning("there is no join token: {}", text.error().message);
    return std::string();
}

Result<std::string> read_join_token(const Flags& flags, const AgentConfig& config)
{
    std::string token;
    if (flags.join && flags.join_file)
        return fail(ErrorKind::usage, "--join and --join-file exclude each other");
    if (flags.join) {
        token = *flags.join;
    } else if (flags.join_file) {
        BULKHEAD_TRY(token, read_file(*flags.join_file));
    } else if (const char* environment = std::getenv("BULKHEAD_JOIN")) {
        token = environment;
    } else {
        BULKHEAD_TRY(token, read_configured_token(config.join_file, flags.check));
    }
    const auto begin = token.find_first_not_of(" \t\r\n");
    if (begin == std::string::npos)
        return std::string();
    return token.substr(begin, token.find_last_not_of(" \t\r\n") - begin + 1);
}

} // namespace

Result<std::optional<Invocation>> read_invocation(int argc, const char* const* argv, std::ostream& out)
{
    Flags flags;
    CLI::App app("Bulkhead agent: enforces segment policy on this host and reports flows", "bulkheadd");
    declare(app, flags);
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        out << app.help();
        return std::nullopt;
    } catch (const CLI::CallForVersion&) {
        out << "bulkheadd " << BULKHEAD_VERSION << '\n';
        return std::nullopt;
    } catch (const CLI::ParseError& error) {
        return fail(ErrorKind::usage, "{} (see bulkheadd --help)", error.what());
    }
    Invocation invocation;
    BULKHEAD_TRY(invocation.config, read_config(flags.config, flags.detach));
    BULKHEAD_CHECK(apply_flags(flags, invocation.config));
    make_absolute(invocation.config);
    BULKHEAD_CHECK(validate(invocation.config));
    if (!invocation.config.failsafe.management_given)
        invocation.config.failsafe.management = {*Cidr::parse("0.0.0.0/0"), *Cidr::parse("::/0")};
    BULKHEAD_TRY(invocation.join_token, read_join_token(flags, invocation.config));
    invocation.action = flags.check ? Action::check : flags.detach ? Action::detach : Action::run;
    return invocation;
}

} // namespace bulkhead::agent
