// SPDX-License-Identifier: Apache-2.0
#include "cli/host/agent_place.h"

#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace bulkhead::cli {
namespace {

void take(const YAML::Node& root, const char* key, std::string& value)
{
    if (const auto node = root[key]; node && node.IsScalar())
        value = node.as<std::string>();
}

} // namespace

AgentPlace find_agent(const HostPaths& paths, const std::string& config)
{
    AgentPlace place;
    if (!config.empty())
        place.config = config;
    const auto path = paths.root + place.config;
    if (::access(path.c_str(), R_OK) != 0) {
        place.config_is_there = errno != ENOENT && errno != ENOTDIR;
        if (place.config_is_there || !config.empty())
            place.trouble = std::strerror(errno);
        return place;
    }
    place.config_is_there = true;
    try {
        const auto root = YAML::LoadFile(path);
        if (root.IsMap())
            for (const auto& [key, value] : {std::pair("state_dir", &place.state_dir),
                                             {"pin_dir", &place.pin_dir},
                                             {"controller", &place.controller},
                                             {"join_file", &place.join_file}})
                take(root, key, *value);
        else if (!root.IsNull())
            place.trouble = "no map of keys and values";
    } catch (const YAML::Exception& exception) {
        place.trouble = exception.what();
    }
    return place;
}

} // namespace bulkhead::cli
