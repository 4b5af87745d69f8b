// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/log.h"
#include "common/core/result.h"

#include <optional>
#include <string>
#include <vector>

namespace bulkhead::controller {

inline constexpr const char* default_config_path = "/etc/bulkhead/controller.yaml";

struct ControllerConfig {
    std::string state_dir = "/var/lib/bulkhead-controller";
    std::string grpc_listen = "0.0.0.0:7443";
    std::string store; // "sqlite:PATH"; empty: controller.db in the state folder
    LogLevel log_level = LogLevel::info;
};

// Reads controller.yaml over `config`. Errors (invalid) say file:line:column, one a line; an unknown key is one.
[[nodiscard]] Result<ControllerConfig> parse_config(const std::string& file, const std::string& text,
                                                    ControllerConfig config = {});

// What holds for file and flags together.
[[nodiscard]] Status validate(const ControllerConfig& config);

struct ListenAddress {
    std::string host, port; // without the brackets of an IPv6 address
};
[[nodiscard]] std::optional<ListenAddress> parse_listen_address(const std::string& text);
[[nodiscard]] std::string database_path(const ControllerConfig& config);

enum class Action { run, check };
struct Invocation {
    Action action = Action::run;
    ControllerConfig config;
    std::string config_file;      // empty: none was read
    bool log_level_given = false; // by a flag, which a reload does not change
};

// nullopt: --help or --version, already printed.
[[nodiscard]] Result<std::optional<Invocation>> read_invocation(int argc, const char* const* argv);
[[nodiscard]] Result<std::string> read_config_file(const std::string& path);

} // namespace bulkhead::controller
