// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/findings.h"
#include "common/policy/yaml_tree.h"

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::policy {

// Takes values out of YAML nodes of one file. What does not fit becomes a finding and the answer is empty; a node that
// has been complained about already is passed over in silence.
class NodeReader {
public:
    struct Field {
        std::string_view key;
        std::function<void(const YamlNode&)> read;
    };
    struct Text {
        std::string text;
        const YamlNode* node = nullptr;
    };

    NodeReader(std::shared_ptr<const std::string> file, Findings& findings)
        : file_(std::move(file)), findings_(findings)
    {}

    [[nodiscard]] SourceRef at(const YamlNode& node) const { return {file_, node.line, node.column}; }
    void error(const YamlNode& node, std::string message, std::string mend = {}) const;

    // Calls the field's reader for each key. Unknown keys are findings, and so are `later` ones, by name.
    // False when the node is no map.
    bool fields(const YamlNode& node, std::string_view what, const std::vector<Field>& known,
                const std::vector<std::string_view>& later = {}) const;

    // Text that is not empty, without line breaks.
    [[nodiscard]] std::optional<std::string> text(const YamlNode& node, std::string_view what) const;
    // Text for people: may have line breaks.
    [[nodiscard]] std::optional<std::string> prose(const YamlNode& node, std::string_view what) const;
    // A name of ours: letters, digits, '.', '_' and '-', beginning with a letter or digit, at most `longest`
    // characters.
    [[nodiscard]] std::optional<std::string> name(const YamlNode& node, std::string_view what,
                                                  std::size_t longest = 63) const;
    // One text, or a list of them that is not empty and names nothing twice.
    [[nodiscard]] std::vector<Text> texts(const YamlNode& node, std::string_view what) const;
    // The items of a list that is not empty.
    [[nodiscard]] const std::vector<YamlNode>& items(const YamlNode& node, std::string_view what,
                                                     std::string_view example) const;
    // One of a few words, as its index.
    [[nodiscard]] std::optional<std::size_t> choice(const YamlNode& node, std::string_view what,
                                                    const std::vector<std::string_view>& words) const;
    [[nodiscard]] std::optional<Cidr> cidr(const Text& text) const;
    // A label's key or value.
    [[nodiscard]] bool label_key(const YamlNode& node) const;
    [[nodiscard]] bool label_value(const Text& text) const;

private:
    std::shared_ptr<const std::string> file_;
    Findings& findings_;
};

// "90s", "5m", "1h30m", "2d"; nullopt when malformed, zero or more than 30 days.
[[nodiscard]] std::optional<std::chrono::seconds> parse_duration(std::string_view text);

} // namespace bulkhead::policy
