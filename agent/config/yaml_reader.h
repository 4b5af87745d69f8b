// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <yaml-cpp/yaml.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::agent {

// Walks one YAML mapping key by key and collects every error with its place, so that one run names all of them.
class YamlReader {
public:
    explicit YamlReader(std::string file) : file_(std::move(file)) {}

    using Handler = std::function<void(const YAML::Node& value)>;
    // Calls the handler of each key; a key without one, or one that is written twice, is an error.
    void mapping(const YAML::Node& node, const std::string& what, const std::map<std::string, Handler>& handlers);

    // An error makes these return false (or an empty value) after noting it.
    bool scalar(const YAML::Node& node, const std::string& what, std::string& out);
    std::vector<std::pair<YAML::Node, std::string>> scalars(const YAML::Node& node, const std::string& what);

    void error(const YAML::Node& at, const std::string& message, const std::string& mend = {});
    void error(const YAML::Mark& at, const std::string& message, const std::string& mend = {});

    [[nodiscard]] Status status() const;

private:
    std::string file_;
    std::vector<std::string> errors_;
};

// Where a second document begins, or what no document can hold. YAML::Load() ignores what follows the first, and
// YAML::LoadAll() of yaml-cpp 0.7 never ends at a stray ','. Throws YAML::Exception.
[[nodiscard]] std::optional<YAML::Mark> second_document(const std::string& text);

} // namespace bulkhead::agent
