// SPDX-License-Identifier: Apache-2.0
#include "cli/host/agent_place.h"

#include "cli/host/unit_options.h"

#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace bulkhead::cli {
namespace {

// A service's working folder is the root.
std::string from_root(std::string path)
{
    return path.empty() || path.front() == '/' ? path : "/" + path;
}

void take(const YAML::Node& root, const char* key, std::string& value)
{
    if (const auto node = root[key]; node && node.IsScalar())
        value = node.as<std::string>();
}

void read_config(const std::string& path, bool was_named, AgentPlace& place)
{
    if (::access(path.c_str(), R_OK) != 0) {
        place.config_is_there = errno != ENOENT && errno != ENOTDIR;
        if (place.config_is_there || was_named)
            place.trouble = std::strerror(errno);
        return;
    }
    place.config_is_there = true;
    try {
        const auto root = YAML::LoadFile(path);
        if (root.IsMap())
            for (const auto& [key, value] : {std::pair("state_dir", &place.state_dir),
                                             {"pin_dir", &place.pin_dir},
                                             {"socket", &place.socket},
                                             {"controller", &place.controller},
                                             {"policy_dir", &place.policy_dir},
                                             {"join_file", &place.join_file}})
                take(root, key, *value);
        else if (!root.IsNull())
            place.trouble = "no map of keys and values";
    } catch (const YAML::Exception& exception) {
        place.trouble = exception.what();
    }
}

void read_environment(const std::string& root, AgentPlace& place)
{
    place.environment = (std::filesystem::path(place.config).parent_path() / "agent.env").string();
    if (const auto text = whole_file(root + place.environment))
        place.options = unit_options(*text);
    else if (errno != ENOENT && errno != ENOTDIR)
        place.environment_trouble = std::strerror(errno);
}

void take_flags(std::vector<std::string> options, AgentPlace& place)
{
    auto controller = take_flag(options, "--controller");
    auto policy_dir = take_flag(options, "--policy-dir");
    if (controller || policy_dir) { // one source of policy replaces the other
        place.controller = std::move(controller).value_or("");
        place.policy_dir = from_root(std::move(policy_dir).value_or(""));
    }
    for (const auto& [name, value] :
         {std::pair("--state-dir", &place.state_dir), {"--socket", &place.socket}, {"--join-file", &place.join_file}})
        if (auto given = take_flag(options, name))
            *value = from_root(std::move(*given));
}

} // namespace

AgentPlace find_agent(const HostPaths& paths, const std::string& config)
{
    AgentPlace place;
    if (!config.empty())
        place.config = config;
    read_environment(paths.root, place);
    const auto other = take_flag(place.options, "--config");
    if (other && config.empty())
        place.config = from_root(*other);
    read_config(paths.root + place.config, other || !config.empty(), place);
    take_flags(place.options, place);
    return place;
}

} // namespace bulkhead::cli
