// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/agent_place.h"

#include <chrono>

namespace bulkhead::cli {

// What the agent has on disk: configuration, state folder, room, certificate, who may read its keys. Reads only. Empty
// where no agent has ever been.
[[nodiscard]] Findings check_agent_files(const HostPaths& paths, const AgentPlace& place,
                                         std::chrono::system_clock::time_point now);

// Programs of an agent that is not there any more.
[[nodiscard]] bool anything_pinned(const HostPaths& paths, const AgentPlace& place);

// Whether HOST:PORT resolves and answers a connection. Nothing is sent.
[[nodiscard]] Findings check_reachable(const std::string& controller);

// Of a file that holds a private key: nobody but its owner may read it. `then`: what to do, or to know, once it is so
// again. nullopt: it is not there.
[[nodiscard]] std::optional<Finding> check_key_file(const std::string& path, const std::string& then);

} // namespace bulkhead::cli
