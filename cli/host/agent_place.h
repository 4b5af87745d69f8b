// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/finding.h"

namespace bulkhead::cli {

// Where the agent of this host keeps its things, without asking it: by its configuration file, and by the flags that
// its unit adds, which count more.
struct AgentPlace {
    std::string config = "/etc/bulkhead/agent.yaml";
    std::string state_dir = "/var/lib/bulkhead";
    std::string pin_dir = "/sys/fs/bpf/bulkhead";
    std::string socket;               // empty: not said
    std::string controller;           // HOST:PORT; empty: none
    std::string policy_dir;           // or empty
    std::string join_file;            // or empty
    bool config_is_there = false;     // else all of the above are defaults, or of flags
    std::string trouble;              // why the file could not be read
    std::string environment;          // agent.env, beside the file that was asked for
    std::string environment_trouble;  // why that could not be read, though it is there
    std::vector<std::string> options; // the flags in it, without --config
};
// `config`: what was asked for; empty: what the unit starts the agent with.
[[nodiscard]] AgentPlace find_agent(const HostPaths& paths, const std::string& config);

} // namespace bulkhead::cli
