// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::policy {

struct YamlMember;

// A YAML node that knows where it stands. Lines and columns (bytes) count from 1. `invalid` is a node about which a
// finding has been made already: whoever reads it says nothing more.
struct YamlNode {
    enum class Kind { null, scalar, sequence, map, invalid } kind = Kind::null;
    int line = 1;
    int column = 1;
    std::string text;                // of a scalar
    bool quoted = false;             // a scalar in quotes or a block
    std::vector<YamlNode> items;     // of a sequence
    std::vector<YamlMember> members; // of a map, as written; keys are distinct

    [[nodiscard]] const YamlNode* find(std::string_view key) const;
};

struct YamlMember {
    YamlNode key; // a scalar
    YamlNode value;
};

struct YamlFinding {
    int line = 1;
    int column = 1;
    std::string message, mend;
};

struct YamlFile {
    std::vector<YamlNode> documents; // those that could be read
    std::vector<YamlFinding> findings;
};

// The adapter of yaml-cpp: text to trees, within the bounds of parse.h. Anchors, aliases, tags, duplicate keys and keys
// that are not scalars are findings; so is text that is no UTF-8 or has control characters. After a syntax error
// reading goes on at the next `---`. Nothing that the text says can make the tree larger than the text.
[[nodiscard]] YamlFile read_yaml(const std::string& text);

} // namespace bulkhead::policy
