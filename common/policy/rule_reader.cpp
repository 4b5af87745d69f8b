// SPDX-License-Identifier: Apache-2.0
#include "common/policy/rule_reader.h"

#include "common/core/timestamp.h"
#include "common/policy/glob.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace bulkhead::policy {
namespace {

// What names a cgroup; systemd.unit(5).
constexpr std::array<std::string_view, 6> unit_suffixes{".service", ".scope", ".slice", ".socket", ".mount", ".swap"};

std::string lower_case(std::string text)
{
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    return text;
}

bool is_hex(std::string_view text)
{
    return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::optional<std::string> read_unit(const NodeReader& reader, const YamlNode& node)
{
    auto unit = reader.text(node, "'unit'");
    if (!unit)
        return std::nullopt;
    if (unit->find('/') != std::string::npos) {
        reader.error(node, fmt::format("'{}' is not the name of a unit", shown(*unit)),
                     "write for example nginx.service");
        return std::nullopt;
    }
    const auto ends = [&unit](std::string_view suffix) {
        return unit->size() > suffix.size() && unit->ends_with(suffix);
    };
    if (std::any_of(unit_suffixes.begin(), unit_suffixes.end(), ends))
        return unit;
    reader.error(node, fmt::format("unit '{}' has no type", shown(*unit)),
                 fmt::format("write {}.service", shown(*unit)));
    return std::nullopt;
}

std::optional<std::string> read_exe(const NodeReader& reader, const YamlNode& node)
{
    auto exe = reader.text(node, "'exe'");
    if (!exe)
        return std::nullopt;
    if (const auto wrong = glob_error(*exe); !wrong.empty()) {
        reader.error(node, fmt::format("'{}' is not a pattern: {}", shown(*exe), wrong), "see glob(7)");
        return std::nullopt;
    }
    if (exe->front() == '/' || exe->starts_with("**"))
        return exe;
    reader.error(node, fmt::format("'{}' is not a whole path", shown(*exe)),
                 fmt::format("begin with '/'; **/{} means any folder", shown(*exe)));
    return std::nullopt;
}

std::optional<std::string> read_sha256(const NodeReader& reader, const YamlNode& node)
{
    auto digest = reader.text(node, "'sha256'");
    if (!digest)
        return std::nullopt;
    *digest = lower_case(std::move(*digest));
    if (digest->size() == 64 && is_hex(*digest))
        return digest;
    reader.error(node, "'sha256' must be 64 hexadecimal digits", "take it from sha256sum(1)");
    return std::nullopt;
}

std::optional<std::string> read_user(const NodeReader& reader, const YamlNode& node)
{
    auto user = reader.text(node, "'user'");
    if (user && user->find_first_of(" :/") != std::string::npos) {
        reader.error(node, fmt::format("'{}' is not a user", shown(*user)), "write a user name or a number");
        return std::nullopt;
    }
    return user;
}

std::optional<std::string> read_container(const NodeReader& reader, const YamlNode& node)
{
    auto id = reader.text(node, "'container'");
    if (!id)
        return std::nullopt;
    *id = lower_case(std::move(*id));
    if (id->size() >= 12 && id->size() <= 64 && is_hex(*id))
        return id;
    reader.error(node, fmt::format("'{}' is not a container's id", shown(*id)),
                 "write the id: 64 hexadecimal digits, or at least the first 12");
    return std::nullopt;
}

std::optional<WallTime> read_instant(const NodeReader& reader, const YamlNode& node)
{
    const auto text = reader.text(node, "'expires'");
    if (!text)
        return std::nullopt;
    constexpr std::int64_t last = 9'000'000'000; // 2255, within what a count of nanoseconds can hold
    const auto micros = parse_rfc3339_micros(*text);
    if (micros && *micros >= 0 && *micros / 1'000'000 <= last)
        return WallTime(std::chrono::microseconds(*micros));
    if (micros)
        reader.error(node, fmt::format("'expires' cannot be '{}'", shown(*text)), "years go from 1970 to 2254");
    else
        reader.error(node, fmt::format("'{}' is not an instant", shown(*text)),
                     "write date, time and offset (RFC 3339), such as 2026-12-01T18:00:00Z");
    return std::nullopt;
}

// A side and its peer; the other side is the segment that the rule stands in.
void check_sides(const NodeReader& reader, const YamlNode& node)
{
    const auto* from = node.find("from");
    const auto* to = node.find("to");
    if (from != nullptr && to != nullptr)
        reader.error(*to, "a rule with both 'from' and 'to'",
                     "one side is the segment that the rule stands in: leave that side out");
    else if (from == nullptr && to == nullptr)
        reader.error(node, "a rule needs 'from' or 'to'",
                     "write from: {segment: NAME} for who may come in, to: for where this segment may go; or any");
}

void check_id(const NodeReader& reader, const YamlNode& node, const std::string& id)
{
    if (id == "default-inbound" || id == "default-outbound" || id == "default-loopback")
        reader.error(node, fmt::format("'{}' is how records call the segment's default", id), "choose another id");
}

} // namespace

std::optional<ProcessCondition> read_process(const NodeReader& reader, const YamlNode& node)
{
    ProcessCondition condition;
    bool good = true;
    const auto into = [&](std::string_view key, std::optional<std::string>& target, auto read) {
        return NodeReader::Field{key, [&target, &good, &reader, read](const YamlNode& value) {
                                     target = read(reader, value);
                                     good = good && target.has_value();
                                 }};
    };
    if (!reader.fields(node, "'process'",
                       {into("unit", condition.unit, read_unit), into("exe", condition.exe, read_exe),
                        into("sha256", condition.sha256, read_sha256), into("user", condition.user, read_user),
                        into("container", condition.container, read_container)}))
        return std::nullopt;
    if (node.members.empty()) {
        reader.error(node, "'process' is empty", "name a unit, exe, user or container, or remove the key");
        return std::nullopt;
    }
    if (node.find("sha256") != nullptr && node.find("exe") == nullptr) {
        reader.error(node, "'sha256' without 'exe'", "say which file must have the digest: exe: /usr/sbin/nginx");
        return std::nullopt;
    }
    return good ? std::optional(std::move(condition)) : std::nullopt;
}

std::optional<DeclaredRule> read_rule(const NodeReader& reader, const YamlNode& node, Action action)
{
    DeclaredRule declared;
    auto& rule = declared.rule;
    rule.action = action;
    rule.where = reader.at(node);
    bool good = true;
    const auto side = [&](std::string_view key, std::optional<PeerRef>& target) {
        return NodeReader::Field{key, [&target, &good, &reader, key](const YamlNode& value) {
                                     target = read_peer(reader, value, key);
                                     good = good && target.has_value();
                                 }};
    };
    const bool is_map = reader.fields(
        node, "a rule",
        {{"id",
          [&](const YamlNode& value) {
              rule.id = reader.name(value, "'id'").value_or("");
              check_id(reader, value, rule.id);
          }},
         side("from", rule.from),
         side("to", rule.to),
         {"service",
          [&](const YamlNode& value) {
              for (const auto& text : reader.texts(value, "'service'"))
                  declared.services.push_back({text.text, reader.at(*text.node)});
          }},
         {"process",
          [&](const YamlNode& value) {
              rule.process = read_process(reader, value);
              good = good && rule.process.has_value();
          }},
         {"expires",
          [&](const YamlNode& value) {
              rule.expires = read_instant(reader, value);
              good = good && rule.expires.has_value();
          }},
         {"reason", [&](const YamlNode& value) { rule.reason = reader.prose(value, "'reason'").value_or(""); }}},
        {"peer_process"});
    if (!is_map)
        return std::nullopt;
    check_sides(reader, node);
    if (node.find("id") == nullptr)
        reader.error(node, "a rule without 'id'", "name it, so that records can: id: api-to-db");
    if (node.find("service") == nullptr)
        reader.error(node, "a rule without 'service'",
                     "write for example service: tcp/5432; `any` means every protocol");
    declared.complete = good && rule.from.has_value() != rule.to.has_value();
    return declared;
}

} // namespace bulkhead::policy
