// SPDX-License-Identifier: Apache-2.0
#include "common/policy/document_reader.h"

#include "common/policy/rule_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace bulkhead::policy {
namespace {

using Kind = YamlNode::Kind;

constexpr std::array<std::string_view, 11> segment_keys{"segment",  "description", "owner",    "selector",
                                                        "mode",     "inbound",     "outbound", "loopback",
                                                        "sessions", "allow",       "deny"};

bool is_segment_key(std::string_view key)
{
    return std::find(segment_keys.begin(), segment_keys.end(), key) != segment_keys.end();
}

void read_version(const NodeReader& reader, const YamlNode& node)
{
    const auto version = reader.text(node, "'version'");
    if (version && *version != "1")
        reader.error(node, fmt::format("version '{}' is not known", shown(*version)), "write version: 1");
}

Sessions read_sessions(const NodeReader& reader, const YamlNode& node)
{
    const auto text = reader.text(node, "'sessions'");
    if (!text || *text == "keep")
        return {};
    if (*text == "cut")
        return {Sessions::Kind::cut, {}};
    if (text->starts_with("drain ") || *text == "drain") {
        const auto space = text->find_first_not_of(' ', 5);
        const auto duration = space == std::string::npos ? std::nullopt : parse_duration(text->substr(space));
        if (duration)
            return {Sessions::Kind::drain, *duration};
        reader.error(node, fmt::format("'{}' does not say for how long", shown(*text)),
                     "write for example drain 60s (units s, m, h, d; at most 30d), or cut");
        return {};
    }
    reader.error(node, fmt::format("'sessions' cannot be '{}'", shown(*text)), "one of: keep, drain 60s, cut");
    return {};
}

void read_rules(const NodeReader& reader, const YamlNode& node, Action action, std::vector<DeclaredRule>& rules)
{
    const bool allow = action == Action::allow;
    for (const auto& item : reader.items(node, allow ? "'allow'" : "'deny'", "- {id: NAME, from: ..., service: ...}"))
        if (auto rule = read_rule(reader, item, action))
            rules.push_back(std::move(*rule));
}

Action read_default(const NodeReader& reader, const YamlNode& node, std::string_view what, Action otherwise)
{
    const auto choice = reader.choice(node, what, {"allow", "deny"});
    return !choice ? otherwise : *choice == 0 ? Action::allow : Action::deny;
}

void check_segment_name(const NodeReader& reader, const YamlNode& node, const std::string& name)
{
    if (name == "any" || name == "failsafe")
        reader.error(node, fmt::format("'{}' has a meaning of its own and cannot be a segment's name", name),
                     "choose another name");
}

void read_segment(const NodeReader& reader, const YamlNode& node, Declared& declared)
{
    DeclaredSegment result;
    auto& segment = result.segment;
    segment.where = reader.at(node);
    std::vector<DeclaredRule> denied;
    const auto misplaced = [&reader](const YamlNode& value) {
        reader.error(value, "services, addresses and workloads cannot stand in a segment's document",
                     "put them into a document of their own, after a line `---`");
    };
    reader.fields(
        node, "a segment",
        {{"version", [&](const YamlNode& value) { read_version(reader, value); }},
         {"segment",
          [&](const YamlNode& value) {
              segment.where = reader.at(value);
              segment.name = reader.name(value, "'segment'").value_or("");
              check_segment_name(reader, value, segment.name);
          }},
         {"description",
          [&](const YamlNode& v) { segment.description = reader.prose(v, "'description'").value_or(""); }},
         {"owner", [&](const YamlNode& v) { segment.owner = reader.text(v, "'owner'").value_or(""); }},
         {"selector",
          [&](const YamlNode& v) {
              segment.selector = read_selector(reader, v, "'selector'").value_or(LabelSelector{});
          }},
         {"mode",
          [&](const YamlNode& value) {
              const auto mode = reader.choice(value, "'mode'", {"observe", "test", "enforce"});
              segment.mode = static_cast<Mode>(mode.value_or(1));
          }},
         {"inbound", [&](const YamlNode& v) { segment.inbound = read_default(reader, v, "'inbound'", Action::deny); }},
         {"outbound",
          [&](const YamlNode& v) { segment.outbound = read_default(reader, v, "'outbound'", Action::allow); }},
         {"loopback",
          [&](const YamlNode& v) { segment.loopback = read_default(reader, v, "'loopback'", Action::allow); }},
         {"sessions", [&](const YamlNode& v) { segment.sessions = read_sessions(reader, v); }},
         {"allow", [&](const YamlNode& v) { read_rules(reader, v, Action::allow, result.rules); }},
         {"deny", [&](const YamlNode& v) { read_rules(reader, v, Action::deny, denied); }},
         {"services", misplaced},
         {"addresses", misplaced},
         {"workloads", misplaced}},
        {"expect"});
    if (node.find("segment") == nullptr)
        reader.error(node, "rules and settings of a segment without its name", "write segment: NAME");
    if (node.find("selector") == nullptr)
        reader.error(node, "a segment without 'selector'",
                     "say which workloads are in it, such as selector: {app: shop, role: db}");
    std::move(denied.begin(), denied.end(), std::back_inserter(result.rules)); // allow first, as documented
    declared.segments.push_back(std::move(result));
}

// The members of a map of definitions, each with a good name.
template <typename Use>
void each_definition(const NodeReader& reader, const YamlNode& node, std::string_view what, std::string_view example,
                     Use use)
{
    if (node.kind != Kind::map || node.members.empty()) {
        reader.error(node, fmt::format("{} defines nothing", what), fmt::format("write `{}`", example));
        return;
    }
    for (const auto& [key, value] : node.members)
        if (auto name = reader.name(key, "the name"))
            use(std::move(*name), key, value);
}

void read_services(const NodeReader& reader, const YamlNode& node, Declared& declared)
{
    static constexpr std::array<std::string_view, 6> reserved{"any", "tcp", "udp", "icmp", "icmpv6", "proto"};
    each_definition(reader, node, "'services'", "services: {postgres: [tcp/5432]}",
                    [&](std::string name, const YamlNode& key, const YamlNode& value) {
                        if (std::find(reserved.begin(), reserved.end(), name) != reserved.end())
                            reader.error(key, fmt::format("'{}' has a meaning of its own and cannot be defined", name),
                                         "choose another name");
                        DeclaredService service{std::move(name), reader.at(key), {}};
                        for (const auto& text : reader.texts(value, fmt::format("service '{}'", service.name)))
                            service.members.push_back({text.text, reader.at(*text.node)});
                        declared.services.push_back(std::move(service));
                    });
}

void read_addresses(const NodeReader& reader, const YamlNode& node, Declared& declared)
{
    each_definition(reader, node, "'addresses'", "addresses: {office: [192.0.2.0/24]}",
                    [&](std::string name, const YamlNode& key, const YamlNode& value) {
                        DeclaredGroup group{std::move(name), reader.at(key), {}};
                        for (const auto& text : reader.texts(value, fmt::format("address group '{}'", group.name)))
                            if (const auto cidr = reader.cidr(text))
                                group.cidrs.push_back(*cidr);
                        declared.groups.push_back(std::move(group));
                    });
}

Labels read_labels(const NodeReader& reader, const YamlNode& node)
{
    Labels labels;
    if (node.kind != Kind::map || node.members.empty()) {
        reader.error(node, "'labels' must be a map that is not empty", "write labels: {app: shop}, or remove the key");
        return labels;
    }
    for (const auto& [key, value] : node.members) {
        if (!reader.label_key(key))
            continue;
        const auto text = reader.text(value, fmt::format("label '{}'", key.text));
        if (text && reader.label_value({*text, &value}))
            labels[key.text] = *text;
    }
    return labels;
}

void read_workload(const NodeReader& reader, const YamlNode& node, Declared& declared)
{
    WorkloadDeclaration workload;
    workload.where = reader.at(node);
    const auto add_address = [&](const NodeReader::Text& text) {
        if (const auto address = IpAddress::parse(text.text))
            workload.addresses.push_back(*address);
        else
            reader.error(*text.node, fmt::format("'{}' is not an address", shown(text.text)),
                         "write for example 10.1.7.7 or \"2001:db8::7\"; ranges belong into addresses:");
    };
    if (!reader.fields(node, "a workload",
                       {{"name",
                         [&](const YamlNode& value) {
                             workload.where = reader.at(value);
                             workload.name = reader.name(value, "'name'", 253).value_or("");
                         }},
                        {"ip",
                         [&](const YamlNode& value) {
                             for (const auto& text : reader.texts(value, "'ip'"))
                                 add_address(text);
                         }},
                        {"labels", [&](const YamlNode& value) { workload.labels = read_labels(reader, value); }}}))
        return;
    if (node.find("name") == nullptr)
        reader.error(node, "a workload without 'name'",
                     "write - {name: legacy-1, ip: [10.1.7.7], labels: {app: legacy}}");
    declared.workloads.push_back(std::move(workload));
}

void read_definitions(const NodeReader& reader, const YamlNode& node, Declared& declared)
{
    const auto nothing = [](const YamlNode&) {};
    reader.fields(node, "a document",
                  {{"version", [&](const YamlNode& value) { read_version(reader, value); }},
                   {"segment", nothing}, // offered when a key is misspelt
                   {"selector", nothing},
                   {"services", [&](const YamlNode& value) { read_services(reader, value, declared); }},
                   {"addresses", [&](const YamlNode& value) { read_addresses(reader, value, declared); }},
                   {"workloads",
                    [&](const YamlNode& value) {
                        for (const auto& item :
                             reader.items(value, "'workloads'", "- {name: legacy-1, ip: [10.1.7.7]}"))
                            read_workload(reader, item, declared);
                    }}},
                  {"expect"});
    const auto is_version = [](const YamlMember& member) { return member.key.text == "version"; };
    if (std::all_of(node.members.begin(), node.members.end(), is_version))
        reader.error(node, "there is nothing in this document",
                     "write a segment, services, addresses or workloads, or remove it");
}

} // namespace

void read_document(const NodeReader& reader, const YamlNode& node, Declared& declared)
{
    if (node.kind == Kind::null) {
        reader.error(node, "there is nothing in this document", "write a policy, or remove the line `---`");
        return;
    }
    if (node.kind != Kind::map) {
        reader.error(node, "a document must be a map", "begin with the line version: 1");
        return;
    }
    if (node.find("version") == nullptr)
        reader.error(node, "a document without 'version'", "begin with the line version: 1");
    const bool has_segment = std::any_of(node.members.begin(), node.members.end(),
                                         [](const auto& member) { return is_segment_key(member.key.text); });
    if (has_segment)
        read_segment(reader, node, declared);
    else
        read_definitions(reader, node, declared);
}

} // namespace bulkhead::policy
