// SPDX-License-Identifier: Apache-2.0
#include "common/policy/rule_reader.h"

#include <fmt/format.h>

namespace bulkhead::policy {
namespace {

using Kind = YamlNode::Kind;

void read_term(const NodeReader& reader, const YamlMember& member, LabelSelector& selector, bool& good)
{
    const auto& [key, value] = member;
    if (!reader.label_key(key)) {
        good = false;
        return;
    }
    const auto texts = reader.texts(value, fmt::format("label '{}'", key.text));
    good = good && !texts.empty();
    auto& values = selector.terms[key.text];
    for (const auto& text : texts) {
        if (text.text == "*") {
            if (value.kind == Kind::sequence) {
                reader.error(*text.node, "\"*\" in a list", fmt::format("write {}: \"*\" for any value", key.text));
                good = false;
            }
            continue; // present, whatever its value
        }
        good = reader.label_value(text) && good;
        values.push_back(text.text);
    }
}

// The key that a peer has, or nullptr after a finding.
const YamlMember* only_member(const NodeReader& reader, const YamlNode& node, std::string_view side)
{
    if (node.members.size() == 1)
        return &node.members.front();
    if (node.members.empty())
        reader.error(node, fmt::format("'{}' names nobody", side),
                     fmt::format("leave '{}' out, or write {}: any", side, side));
    else
        reader.error(node.members[1].key, fmt::format("'{}' names peers in {} ways", side, node.members.size()),
                     "keep one key, and write a rule for each of the others");
    return nullptr;
}

} // namespace

std::optional<LabelSelector> read_selector(const NodeReader& reader, const YamlNode& node, std::string_view what)
{
    if (node.kind == Kind::null || (node.kind == Kind::map && node.members.empty())) {
        reader.error(
            node, fmt::format("{} selects nothing in particular", what),
            "name labels, such as {app: shop, role: db}; {app: \"*\"} selects every workload that has the label");
        return std::nullopt;
    }
    if (node.kind != Kind::map) {
        reader.error(node, fmt::format("{} must be a map of labels", what), "write {app: shop, role: db}");
        return std::nullopt;
    }
    LabelSelector selector;
    bool good = true;
    for (const auto& member : node.members)
        read_term(reader, member, selector, good);
    return good ? std::optional(std::move(selector)) : std::nullopt;
}

std::optional<PeerRef> read_peer(const NodeReader& reader, const YamlNode& node, std::string_view side)
{
    PeerRef peer;
    peer.where = reader.at(node);
    if (node.kind == Kind::scalar && node.text == "any") {
        peer.any = true;
        return peer;
    }
    if (node.kind != Kind::map) {
        const bool bare = node.kind == Kind::scalar && !node.text.empty();
        reader.error(
            node,
            bare ? fmt::format("'{}' cannot be '{}'", side, shown(node.text)) : fmt::format("'{}' must say who", side),
            bare ? fmt::format("write {}: {{segment: {}}}, or labels, cidr, addresses, workload; or any", side,
                               shown(node.text))
                 : fmt::format("write {}: {{segment: NAME}}, or labels, cidr, addresses, workload; or any", side));
        return std::nullopt;
    }
    bool good = false;
    const auto name_into = [&](std::optional<std::string>& target, std::string_view what, std::size_t longest = 63) {
        return NodeReader::Field{what, [&target, &good, &reader, &peer, what, longest](const YamlNode& value) {
                                     peer.where = reader.at(value); // where a name that nobody knows is shown
                                     target = reader.name(value, what, longest);
                                     good = target.has_value();
                                 }};
    };
    const std::vector<NodeReader::Field> fields{
        name_into(peer.segment, "segment"),
        {"labels",
         [&](const YamlNode& value) {
             peer.labels = read_selector(reader, value, "'labels'");
             good = peer.labels.has_value();
         }},
        {"cidr",
         [&](const YamlNode& value) {
             const auto texts = reader.texts(value, "'cidr'");
             for (const auto& text : texts)
                 if (const auto cidr = reader.cidr(text))
                     peer.cidrs.push_back(*cidr);
             good = !texts.empty() && peer.cidrs.size() == texts.size();
         }},
        name_into(peer.addresses, "addresses"),
        name_into(peer.workload, "workload", 253),
    };
    if (only_member(reader, node, side) == nullptr) {
        reader.fields(node, fmt::format("'{}'", side), fields, {"fqdn"}); // for the errors in it
        return std::nullopt;
    }
    reader.fields(node, fmt::format("'{}'", side), fields, {"fqdn"});
    return good ? std::optional(std::move(peer)) : std::nullopt;
}

} // namespace bulkhead::policy
