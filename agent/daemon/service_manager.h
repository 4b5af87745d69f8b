// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <optional>
#include <string>

namespace bulkhead::agent {

// sd_notify(3); all of these do nothing when no service manager listens.
void notify_ready(const std::string& status);
void notify_status(const std::string& status);
void notify_reloading();
void notify_stopping();
void notify_watchdog();
void notify_busy(); // what is under way goes on, however long it takes; also before the agent is ready

// Blocks SIGTERM, SIGINT and SIGHUP in this thread and all that it starts later, and ignores SIGPIPE: call before any
// thread exists.
void block_signals();
[[nodiscard]] Result<UniqueFd> open_signals();
// The next signal of open_signals(); nullopt: none waits.
[[nodiscard]] std::optional<int> read_signal(const UniqueFd& signals);

} // namespace bulkhead::agent
