// SPDX-License-Identifier: Apache-2.0
#include "agent/config/yaml_reader.h"

#include <fmt/ranges.h>
#include <yaml-cpp/eventhandler.h>

#include <set>
#include <sstream>

namespace bulkhead::agent {

namespace {

class DocumentStart final : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark& mark) override { at = mark; }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
    void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
    void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
    void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnSequenceEnd() override {}
    void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnMapEnd() override {}

    YAML::Mark at;
};

} // namespace

std::optional<YAML::Mark> second_document(const std::string& text)
{
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    DocumentStart start;
    if (parser.HandleNextDocument(start) && parser.HandleNextDocument(start))
        return start.at;
    return std::nullopt;
}

void YamlReader::mapping(const YAML::Node& node, const std::string& what,
                         const std::map<std::string, Handler>& handlers)
{
    if (node.IsNull())
        return;
    if (!node.IsMap()) {
        error(node, fmt::format("{} must be a mapping of keys to values", what));
        return;
    }
    std::set<std::string> seen;
    for (const auto& entry : node) {
        if (!entry.first.IsScalar()) {
            error(entry.first, "a key must be plain text");
            continue;
        }
        const std::string& key = entry.first.Scalar();
        const auto handler = handlers.find(key);
        if (handler == handlers.end()) {
            std::vector<std::string> known;
            for (const auto& [name, unused] : handlers)
                known.push_back(name);
            error(entry.first, fmt::format("unknown key '{}' in {}", key, what),
                  fmt::format("the keys are: {}", fmt::join(known, ", ")));
        } else if (!seen.insert(key).second) {
            error(entry.first, fmt::format("key '{}' is written twice in {}", key, what));
        } else {
            handler->second(entry.second);
        }
    }
}

bool YamlReader::scalar(const YAML::Node& node, const std::string& what, std::string& out)
{
    if (!node.IsScalar() || node.Scalar().empty()) {
        error(node, fmt::format("{} must be a single value", what));
        return false;
    }
    if (node.Scalar().find('\0') != std::string::npos) {
        error(node, fmt::format("{} contains a NUL character", what));
        return false;
    }
    out = node.Scalar();
    return true;
}

std::vector<std::pair<YAML::Node, std::string>> YamlReader::scalars(const YAML::Node& node, const std::string& what)
{
    std::vector<std::pair<YAML::Node, std::string>> values;
    if (!node.IsSequence()) {
        error(node, fmt::format("{} must be a list", what), "write it as [A, B]");
        return values;
    }
    for (const auto& item : node) {
        std::string value;
        if (scalar(item, "each entry of " + what, value))
            values.emplace_back(item, std::move(value));
    }
    return values;
}

void YamlReader::error(const YAML::Node& at, const std::string& message, const std::string& mend)
{
    error(at.Mark(), message, mend);
}

void YamlReader::error(const YAML::Mark& at, const std::string& message, const std::string& mend)
{
    std::string line = fmt::format("{}:{}:{}: error: {}", file_, at.line + 1, at.column + 1, message);
    if (!mend.empty())
        line += fmt::format("\n    mend: {}", mend);
    errors_.push_back(std::move(line));
}

Status YamlReader::status() const
{
    if (errors_.empty())
        return {};
    return fail(ErrorKind::invalid, "{}", fmt::join(errors_, "\n"));
}

} // namespace bulkhead::agent
