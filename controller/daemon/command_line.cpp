// SPDX-License-Identifier: Apache-2.0
#include "controller/daemon/config.h"

#include "common/core/version.h"

#include <CLI/CLI.hpp>

#include <cerrno>
#include <fstream>
#include <iostream>
#include <sstream>

namespace bulkhead::controller {
namespace {

constexpr std::size_t max_config_bytes = 1U << 20;

struct Flags {
    std::string config, state_dir, grpc_listen, store, log_level;
    bool check = false;
};

void declare(CLI::App& app, Flags& flags)
{
    app.add_option("--config", flags.config, "configuration file")->type_name("FILE")->default_str(default_config_path);
    app.add_option("--state-dir", flags.state_dir, "keys, admin.yaml and the database")->type_name("DIR");
    app.add_option("--grpc-listen", flags.grpc_listen, "where agents and admins connect")->type_name("ADDRESS:PORT");
    app.add_option("--store", flags.store, "sqlite:PATH")->type_name("STORE");
    app.add_option("--log-level", flags.log_level, "error, warning, info or debug")->type_name("LEVEL");
    app.add_flag("--check", flags.check, "validate the configuration and leave");
    app.set_version_flag("--version", std::string("bulkhead-controller ") + BULKHEAD_VERSION);
}

Result<Invocation> with_flags(const Flags& flags, bool config_given)
{
    Invocation invocation;
    invocation.action = flags.check ? Action::check : Action::run;
    const auto path = config_given ? flags.config : std::string(default_config_path);
    if (config_given || std::ifstream(path).good()) {
        BULKHEAD_TRY(const auto text, read_config_file(path));
        BULKHEAD_TRY(invocation.config, parse_config(path, text));
        invocation.config_file = path;
    }
    auto& config = invocation.config;
    if (!flags.state_dir.empty())
        config.state_dir = flags.state_dir;
    if (!flags.grpc_listen.empty())
        config.grpc_listen = flags.grpc_listen;
    if (!flags.store.empty())
        config.store = flags.store;
    if (!flags.log_level.empty()) {
        const auto level = parse_log_level(flags.log_level);
        if (!level)
            return fail(ErrorKind::usage, "'{}' is no log level: use error, warning, info or debug", flags.log_level);
        config.log_level = *level;
        invocation.log_level_given = true;
    }
    BULKHEAD_CHECK(validate(config));
    return invocation;
}

} // namespace

Result<std::string> read_config_file(const std::string& path)
{
    std::ifstream stream(path, std::ios::binary);
    std::string text(max_config_bytes + 1, '\0');
    if (stream)
        stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (!stream.eof() && stream.fail())
        return fail(ErrorKind::invalid, "{}: {}", path, std::generic_category().message(errno));
    text.resize(static_cast<std::size_t>(stream.gcount()));
    if (text.size() > max_config_bytes)
        return fail(ErrorKind::invalid, "{}: longer than {} bytes", path, max_config_bytes);
    return text;
}

Result<std::optional<Invocation>> read_invocation(int argc, const char* const* argv)
{
    CLI::App app("Bulkhead's controller: enrols agents, distributes policy, keeps records", "bulkhead-controller");
    Flags flags;
    declare(app, flags);
    try {
        app.parse(argc, argv);
    } catch (const CLI::Success& asked) {
        app.exit(asked, std::cout, std::cerr);
        return std::nullopt;
    } catch (const CLI::ParseError& error) {
        return fail(ErrorKind::usage, "{} (see --help)", error.what());
    }
    BULKHEAD_TRY(auto invocation, with_flags(flags, app.count("--config") != 0));
    return invocation;
}

} // namespace bulkhead::controller
