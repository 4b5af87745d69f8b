// SPDX-License-Identifier: Apache-2.0
#include "agent/config/agent_config.h"

#include "agent/config/yaml_reader.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t min_spool_bytes = 1ULL << 20;
constexpr std::size_t max_config_bytes = 1U << 20;

void read_labels(YamlReader& reader, const YAML::Node& node, policy::Labels& labels)
{
    if (!node.IsMap()) {
        reader.error(node, "labels must be a mapping", "write them as {app: shop, role: web}");
        return;
    }
    for (const auto& entry : node) {
        std::string key, value;
        if (!reader.scalar(entry.first, "the name of a label", key) ||
            !reader.scalar(entry.second, "the value of a label", value))
            continue;
        if (!labels.emplace(key, value).second)
            reader.error(entry.first, fmt::format("label '{}' is written twice", key));
    }
}

void read_addresses(YamlReader& reader, const YAML::Node& node, const std::string& what, std::vector<IpAddress>& out)
{
    for (const auto& [item, text] : reader.scalars(node, what)) {
        if (const auto address = IpAddress::parse(text))
            out.push_back(*address);
        else
            reader.error(item, fmt::format("'{}' is no IP address", text),
                         "names are not resolved here; write 192.0.2.1");
    }
}

void read_cidrs(YamlReader& reader, const YAML::Node& node, const std::string& what, std::vector<Cidr>& out)
{
    for (const auto& [item, text] : reader.scalars(node, what)) {
        Cidr::ParseError error{};
        if (const auto cidr = Cidr::parse(text, &error))
            out.push_back(*cidr);
        else if (error == Cidr::ParseError::host_bits)
            reader.error(item, fmt::format("'{}' has host bits set", text), "clear the bits behind the prefix length");
        else
            reader.error(item, fmt::format("'{}' is no network", text), "write it as 192.0.2.0/24 or 2001:db8::/32");
    }
    std::sort(out.begin(), out.end());
    out.erase(std::unique(out.begin(), out.end()), out.end());
}

void read_dhcp(YamlReader& reader, const YAML::Node& node, FailsafeConfig& out)
{
    out.dhcp_servers.clear();
    if (node.IsSequence()) {
        out.dhcp = true;
        read_addresses(reader, node, "failsafe.dhcp", out.dhcp_servers);
        if (out.dhcp_servers.empty())
            reader.error(node, "failsafe.dhcp names no server", "write false to have no such failsafe");
    } else if (!node.IsScalar() || !YAML::convert<bool>::decode(node, out.dhcp)) {
        reader.error(node, "failsafe.dhcp must be true, false or a list of servers");
    }
}

constexpr const char* failsafe_names = "one of ssh, controller, dns, ntp, dhcp";

void read_failsafe(YamlReader& reader, const YAML::Node& node, FailsafeConfig& out)
{
    reader.mapping(node, "failsafe",
                   {{"management",
                     [&](const YAML::Node& value) {
                         out.management.clear();
                         out.management_given = true;
                         read_cidrs(reader, value, "failsafe.management", out.management);
                     }},
                    {"resolvers",
                     [&](const YAML::Node& value) {
                         out.resolvers.emplace();
                         read_addresses(reader, value, "failsafe.resolvers", *out.resolvers);
                     }},
                    {"ntp", [&](const YAML::Node& value) { read_addresses(reader, value, "failsafe.ntp", out.ntp); }},
                    {"dhcp", [&](const YAML::Node& value) { read_dhcp(reader, value, out); }},
                    {"without",
                     [&](const YAML::Node& value) {
                         for (const auto& [item, name] : reader.scalars(value, "failsafe.without")) {
                             if (!risk_without_failsafe(name))
                                 reader.error(item, fmt::format("there is no failsafe '{}'", name), failsafe_names);
                             out.without.push_back(name);
                         }
                     }},
                    {"accept_lock_out", [&](const YAML::Node& value) {
                         if (!value.IsScalar() || !YAML::convert<bool>::decode(value, out.accept_lock_out))
                             reader.error(value, "failsafe.accept_lock_out must be true or false");
                     }}});
}

void read_spool(YamlReader& reader, const YAML::Node& node, std::uint64_t& max_bytes)
{
    reader.mapping(node, "spool", {{"max_bytes", [&](const YAML::Node& value) {
                                        std::string text;
                                        if (!reader.scalar(value, "spool.max_bytes", text))
                                            return;
                                        const char* const end = text.data() + text.size();
                                        const auto [stop, code] = std::from_chars(text.data(), end, max_bytes);
                                        if (code != std::errc{} || stop != end || max_bytes < min_spool_bytes)
                                            reader.error(value, "spool.max_bytes must be a number of bytes",
                                                         fmt::format("at least {}", min_spool_bytes));
                                    }}});
}

void read_metrics(YamlReader& reader, const YAML::Node& node, std::string& listen)
{
    reader.mapping(node, "metrics",
                   {{"listen", [&](const YAML::Node& value) {
                         if (reader.scalar(value, "metrics.listen", listen) && !parse_host_port(listen))
                             reader.error(value, fmt::format("'{}' is not HOST:PORT", listen));
                     }}});
}

void read_log_level(YamlReader& reader, const YAML::Node& node, LogLevel& out)
{
    std::string text;
    if (!reader.scalar(node, "log_level", text))
        return;
    if (const auto level = parse_log_level(text))
        out = *level;
    else
        reader.error(node, fmt::format("'{}' is no log level", text), "one of error, warning, info, debug");
}

template <typename Mode>
void read_mode(YamlReader& reader, const YAML::Node& node, const char* key,
               std::optional<Mode> (*parse)(std::string_view), const char* values, Mode& out)
{
    std::string text;
    if (!reader.scalar(node, key, text))
        return;
    if (const auto mode = parse(text))
        out = *mode;
    else
        reader.error(node, fmt::format("{} '{}' is unknown", key, text), fmt::format("one of {}", values));
}

void read_document(YamlReader& reader, const YAML::Node& root, AgentConfig& config)
{
    const auto text = [&](const char* key, std::string& out) {
        return std::pair<const std::string, YamlReader::Handler>(
            key, [&reader, &out, key](const YAML::Node& value) { reader.scalar(value, key, out); });
    };
    reader.mapping(
        root, "the agent's configuration",
        {text("hostname", config.hostname),
         text("cgroup", config.cgroup),
         text("controller", config.controller),
         text("policy_dir", config.policy_dir),
         text("join_file", config.join_file),
         text("state_dir", config.state_dir),
         text("socket", config.socket),
         text("pin_dir", config.pin_dir),
         {"labels", [&](const YAML::Node& value) { read_labels(reader, value, config.labels); }},
         {"log_level", [&](const YAML::Node& value) { read_log_level(reader, value, config.log_level); }},
         {"spool", [&](const YAML::Node& value) { read_spool(reader, value, config.spool_max_bytes); }},
         {"metrics", [&](const YAML::Node& value) { read_metrics(reader, value, config.metrics_listen); }},
         {"guard",
          [&](const YAML::Node& value) {
              read_mode(reader, value, "guard", parse_attach_mode, "always, auto, never", config.guard);
          }},
         {"cgroup_ingress",
          [&](const YAML::Node& value) {
              read_mode(reader, value, "cgroup_ingress", parse_attach_mode, "always, auto, never",
                        config.cgroup_ingress);
          }},
         {"refuse",
          [&](const YAML::Node& value) {
              read_mode(reader, value, "refuse", parse_refuse_mode, "reset, silent", config.refuse);
          }},
         {"xdp",
          [&](const YAML::Node& value) { read_mode(reader, value, "xdp", parse_xdp_mode, "auto, never", config.xdp); }},
         {"interfaces",
          [&](const YAML::Node& value) {
              config.interfaces.clear();
              for (const auto& [node, name] : reader.scalars(value, "interfaces"))
                  config.interfaces.push_back(name);
          }},
         {"failsafe", [&](const YAML::Node& value) { read_failsafe(reader, value, config.failsafe); }}});
}

bool usable_hostname(const std::string& name)
{
    return name.size() <= 253 && std::all_of(name.begin(), name.end(), [](unsigned char c) {
               return std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_';
           });
}

} // namespace

Result<AgentConfig> parse_agent_config(const std::string& file, const std::string& text)
{
    AgentConfig config;
    YamlReader reader(file);
    if (text.size() > max_config_bytes)
        return fail(ErrorKind::invalid, "{}:1:1: error: the file is larger than {} bytes", file, max_config_bytes);
    try {
        if (const auto second = second_document(text))
            reader.error(*second, "the agent's configuration is one document", "remove what is not part of it");
        else
            read_document(reader, YAML::Load(text), config);
    } catch (const YAML::Exception& exception) {
        reader.error(exception.mark, exception.msg);
    }
    BULKHEAD_CHECK(reader.status());
    return config;
}

AgentConfig salvage_agent_config(const std::string& text)
{
    AgentConfig config;
    if (text.size() > max_config_bytes)
        return config;
    try {
        const auto root = YAML::Load(text);
        for (const auto& [key, out] : {std::pair("pin_dir", &config.pin_dir), std::pair("cgroup", &config.cgroup),
                                       std::pair("state_dir", &config.state_dir)})
            if (const auto value = root.IsMap() ? root[key] : YAML::Node(); value && value.IsScalar())
                *out = value.Scalar();
    } catch (const YAML::Exception&) { // what was read before it stays
    }
    return config;
}

std::optional<AttachMode> parse_attach_mode(std::string_view text)
{
    if (text == "always")
        return AttachMode::always;
    if (text == "auto")
        return AttachMode::automatic;
    if (text == "never")
        return AttachMode::never;
    return std::nullopt;
}

std::optional<XdpMode> parse_xdp_mode(std::string_view text)
{
    if (text == "auto")
        return XdpMode::automatic;
    if (text == "never")
        return XdpMode::never;
    return std::nullopt;
}

std::optional<RefuseMode> parse_refuse_mode(std::string_view text)
{
    if (text == "reset")
        return RefuseMode::reset;
    if (text == "silent")
        return RefuseMode::silent;
    return std::nullopt;
}

std::optional<std::string> risk_without_failsafe(std::string_view name)
{
    static constexpr std::pair<std::string_view, const char*> risks[] = {
        {"ssh", "a policy that forbids ssh leaves the console as the only way in"},
        {"controller", "a policy that forbids the way to the controller cannot be replaced from there"},
        {"dns", "a policy that forbids name resolution also hides the controller, if it is named"},
        {"ntp", "a clock that runs away makes certificates invalid, and the controller unreachable"},
        {"dhcp", "a lease that cannot be renewed takes the host's address away"},
    };
    for (const auto& [known, risk] : risks)
        if (known == name)
            return risk;
    return std::nullopt;
}

std::optional<HostPort> parse_host_port(const std::string& text)
{
    const auto colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0)
        return std::nullopt;
    HostPort result{text.substr(0, colon), 0};
    const char* const begin = text.data() + colon + 1;
    const char* const end = text.data() + text.size();
    const auto [stop, code] = std::from_chars(begin, end, result.port);
    if (code != std::errc{} || stop != end || result.port == 0)
        return std::nullopt;
    if (result.host.front() == '[' && result.host.back() == ']')
        result.host = result.host.substr(1, result.host.size() - 2);
    else if (result.host.find(':') != std::string::npos) // an IPv6 address without brackets: which colon is the port's?
        return std::nullopt;
    if (result.host.empty())
        return std::nullopt;
    return result;
}

Status validate(const AgentConfig& config)
{
    if (!config.controller.empty() && !config.policy_dir.empty())
        return fail(ErrorKind::invalid, "policy comes from a controller or from a folder, not from both "
                                        "(mend: leave out 'controller' or 'policy_dir')");
    if (!config.controller.empty() && !parse_host_port(config.controller))
        return fail(ErrorKind::invalid,
                    "controller '{}' is not HOST:PORT (mend: e.g. bulkhead.example.org:7443 or [2001:db8::1]:7443)",
                    config.controller);
    if (!usable_hostname(config.hostname))
        return fail(ErrorKind::invalid, "hostname '{}' has characters other than letters, digits, '-', '_' and '.'",
                    config.hostname);
    if (!config.join_file.empty() && config.join_file.front() != '/')
        return fail(ErrorKind::invalid, "join_file '{}' is not an absolute path", config.join_file);
    for (const auto& [what, path] : {std::pair("state_dir", &config.state_dir), std::pair("socket", &config.socket),
                                     std::pair("pin_dir", &config.pin_dir)})
        if (path->empty() || path->front() != '/')
            return fail(ErrorKind::invalid, "{} '{}' is not an absolute path", what, *path);
    if (!config.failsafe.without.empty() && !config.failsafe.accept_lock_out) {
        std::string risks;
        for (const auto& name : config.failsafe.without)
            risks += fmt::format("\n  without {}: {}", name, risk_without_failsafe(name).value_or("unknown"));
        return fail(ErrorKind::invalid,
                    "a host without its failsafes can lock its admin out (mend: --accept-lock-out, or "
                    "failsafe.accept_lock_out: true, says that you know):{}",
                    risks);
    }
    for (const auto& name : config.interfaces)
        if (name.empty() || name.size() > 15 || name == "lo") // IFNAMSIZ
            return fail(ErrorKind::invalid, "interface '{}' {}", name,
                        name == "lo" ? "is loopback, which the guard leaves alone" : "is no name of an interface");
    if (config.refuse == RefuseMode::silent && config.guard == AttachMode::never)
        return fail(ErrorKind::invalid, "refusing silently needs the guard (mend: leave out guard: never)");
    if (config.socket.size() > 107) // sun_path, unix(7)
        return fail(ErrorKind::invalid, "socket '{}' is longer than the 107 bytes that a Unix socket's path may have",
                    config.socket);
    return {};
}

} // namespace bulkhead::agent
