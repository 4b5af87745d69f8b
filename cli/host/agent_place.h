// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/finding.h"

namespace bulkhead::cli {

// Where the agent of this host keeps its things: by its configuration file, without asking it.
struct AgentPlace {
    std::string config = "/etc/bulkhead/agent.yaml";
    std::string state_dir = "/var/lib/bulkhead";
    std::string pin_dir = "/sys/fs/bpf/bulkhead";
    std::string controller;       // HOST:PORT; empty: none
    std::string join_file;        // or empty
    bool config_is_there = false; // else all of the above are defaults
    std::string trouble;          // why the file could not be read
};
[[nodiscard]] AgentPlace find_agent(const HostPaths& paths, const std::string& config);

} // namespace bulkhead::cli
