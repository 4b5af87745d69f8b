// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/log.h"
#include "common/core/result.h"
#include "common/net/ip.h"
#include "common/policy/document.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::agent {

inline constexpr const char* default_config_path = "/etc/bulkhead/agent.yaml";

// What must stay reachable whatever the policy says.
struct FailsafeConfig {
    std::vector<Cidr> management;                    // who may reach ssh here
    bool management_given = false;                   // false: management is everybody, and the agent warns
    std::optional<std::vector<IpAddress>> resolvers; // absent: those of resolv.conf, followed as they change
    std::vector<IpAddress> ntp;
    bool dhcp = true;
    std::vector<IpAddress> dhcp_servers; // empty: any
    std::vector<std::string> without;    // names of failsafes that are not wanted; needs accept_lock_out
    bool accept_lock_out = false;
};

// What a failsafe's absence risks, in words; nullopt: there is no such failsafe.
[[nodiscard]] std::optional<std::string> risk_without_failsafe(std::string_view name);

// When something is attached; `automatic`: while it is needed.
enum class AttachMode { always, automatic, never };

// What a refused inbound attempt gets: what a closed port gives (a reset, port unreachable), or nothing.
enum class RefuseMode { reset, silent };

// Whether XDP drops what arrives in a quarantine, where an interface's driver has it.
enum class XdpMode { automatic, never };

[[nodiscard]] std::optional<XdpMode> parse_xdp_mode(std::string_view text);
[[nodiscard]] std::optional<AttachMode> parse_attach_mode(std::string_view text);
[[nodiscard]] std::optional<RefuseMode> parse_refuse_mode(std::string_view text);

struct AgentConfig {
    std::string hostname; // empty: gethostname(2)
    policy::Labels labels;
    std::string cgroup;     // empty: the root of the cgroup v2 hierarchy
    std::string controller; // HOST:PORT, or empty
    std::string policy_dir; // or empty; never together with `controller`
    std::string join_file;  // with the join token; may be missing: an enrolled host needs none
    std::string state_dir = "/var/lib/bulkhead";
    std::string socket = "/run/bulkhead/agent.sock";
    std::string pin_dir = "/sys/fs/bpf/bulkhead";
    std::uint64_t spool_max_bytes = 256ULL << 20;
    LogLevel log_level = LogLevel::info;
    // Whether packets that pass no door are judged on the interfaces. `automatic` may leave the guard away while
    // nothing can send or receive without a door; where that cannot be known it is `always`.
    AttachMode guard = AttachMode::always;
    // Whether what reaches sockets is judged there, where no inbound door stands. `automatic`: from when packets may
    // come to a network namespace past the guard.
    AttachMode cgroup_ingress = AttachMode::automatic;
    std::vector<std::string> interfaces; // that the guard is on; empty: all but loopback
    RefuseMode refuse = RefuseMode::reset;
    XdpMode xdp = XdpMode::automatic;
    std::string metrics_listen; // HOST:PORT for Prometheus; empty: nobody is answered
    FailsafeConfig failsafe;
};

// Reads agent.yaml. Errors are of kind invalid and say file:line:column, every one of them on its own line. An unknown
// key is an error.
[[nodiscard]] Result<AgentConfig> parse_agent_config(const std::string& file, const std::string& text);

// What detaching needs of a file that is not valid: where to look (pin_dir, cgroup, state_dir), as far as it can be
// read.
[[nodiscard]] AgentConfig salvage_agent_config(const std::string& text);

// What holds for the file and the flags together: no controller beside a folder, names and paths that can be used.
[[nodiscard]] Status validate(const AgentConfig& config);

struct HostPort {
    std::string host; // without the brackets of an IPv6 address
    std::uint16_t port = 0;
};
[[nodiscard]] std::optional<HostPort> parse_host_port(const std::string& text);

} // namespace bulkhead::agent
