// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/config/agent_config.h"

#include <iosfwd>

namespace bulkhead::agent {

enum class Action { run, check, detach };

struct Invocation {
    Action action = Action::run;
    AgentConfig config; // the file with the flags over it, validated
    std::string join_token;
};

// Reads flags, the configuration file that they name (or the default one, if it is there) and the join token.
// nullopt: --help or --version, already printed to `out`. Errors: usage (exit 2), invalid (exit 3).
[[nodiscard]] Result<std::optional<Invocation>> read_invocation(int argc, const char* const* argv, std::ostream& out);

} // namespace bulkhead::agent
