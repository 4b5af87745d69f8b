// SPDX-License-Identifier: Apache-2.0
#include "common/policy/node_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <unordered_set>

namespace bulkhead::policy {
namespace {

using Kind = YamlNode::Kind;

constexpr std::size_t longest_label = 253;

std::string_view kind_word(Kind kind)
{
    switch (kind) {
    case Kind::scalar: return "text";
    case Kind::sequence: return "a list";
    case Kind::map: return "a map";
    case Kind::null:
    case Kind::invalid: break;
    }
    return "empty";
}

bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool consists_of(std::string_view text, std::string_view others)
{
    return std::all_of(text.begin(), text.end(),
                       [others](char c) { return is_alphanumeric(c) || others.find(c) != std::string_view::npos; });
}

// What a CIDR with host bits was meant to be.
std::optional<Cidr> without_host_bits(std::string_view text)
{
    const auto slash = text.find('/');
    const auto address = IpAddress::parse(text.substr(0, slash));
    if (!address || slash == std::string_view::npos)
        return std::nullopt;
    unsigned length = 0;
    std::from_chars(text.data() + slash + 1, text.data() + text.size(), length);
    if (address->is_v4() && text.substr(0, slash).find(':') != std::string_view::npos)
        length -= 96;
    return Cidr{*address, static_cast<std::uint8_t>(length)}.masked();
}

} // namespace

void NodeReader::error(const YamlNode& node, std::string message, std::string mend) const
{
    if (node.kind != Kind::invalid)
        findings_.add(at(node), std::move(message), std::move(mend));
}

bool NodeReader::fields(const YamlNode& node, std::string_view what, const std::vector<Field>& known,
                        const std::vector<std::string_view>& later) const
{
    if (node.kind != Kind::map) {
        error(node, fmt::format("{} must be a map, not {}", what, kind_word(node.kind)), "write `key: value` lines");
        return false;
    }
    for (const auto& [key, value] : node.members) {
        const auto& written = key.text;
        const auto field =
            std::find_if(known.begin(), known.end(), [&written](const auto& f) { return f.key == written; });
        if (field != known.end()) {
            field->read(value);
        } else if (std::find(later.begin(), later.end(), written) != later.end()) {
            error(key, fmt::format("'{}' is not in this version of Bulkhead", written),
                  "remove it; a later version will bring it");
        } else {
            std::vector<std::string_view> keys;
            if (findings_.listens(at(key)))
                for (const auto& f : known)
                    keys.push_back(f.key);
            error(key, fmt::format("unknown key '{}' in {}", shown(written), what), suggest(written, keys));
        }
    }
    return true;
}

std::optional<std::string> NodeReader::prose(const YamlNode& node, std::string_view what) const
{
    const auto end = node.text.find_last_not_of('\n'); // a block (`|`) ends in a line break that nobody means
    if (node.kind == Kind::scalar && end != std::string::npos)
        return node.text.substr(0, end + 1);
    if (node.kind == Kind::null || node.kind == Kind::scalar)
        error(node, fmt::format("{} has no value", what), "give it one, or remove the key");
    else
        error(node, fmt::format("{} must be text, not {}", what, kind_word(node.kind)), "write one value");
    return std::nullopt;
}

std::optional<std::string> NodeReader::text(const YamlNode& node, std::string_view what) const
{
    auto value = prose(node, what);
    if (value && value->find_first_of("\n\t") != std::string::npos) {
        error(node, fmt::format("{} must be on one line", what), "remove line breaks and tabs");
        return std::nullopt;
    }
    return value;
}

std::optional<std::string> NodeReader::name(const YamlNode& node, std::string_view what, std::size_t longest) const
{
    auto value = text(node, what);
    if (!value)
        return std::nullopt;
    if (value->size() <= longest && is_alphanumeric(value->front()) && consists_of(*value, "._-"))
        return value;
    error(node, fmt::format("{} '{}' is not a name", what, shown(*value)),
          fmt::format("use letters, digits, '.', '_' and '-', a letter or digit first, at most {}", longest));
    return std::nullopt;
}

std::vector<NodeReader::Text> NodeReader::texts(const YamlNode& node, std::string_view what) const
{
    std::vector<Text> result;
    if (node.kind != Kind::sequence) {
        if (node.kind == Kind::map)
            error(node, fmt::format("{} must be a value or a list of values, not a map", what), "write [a, b]");
        else if (auto value = text(node, what))
            result.push_back({std::move(*value), &node});
        return result;
    }
    if (node.items.empty())
        error(node, fmt::format("{} is an empty list", what), "name something, or remove the key");
    std::unordered_set<std::string> seen;
    for (const auto& item : node.items) {
        auto value = text(item, what);
        if (!value)
            continue;
        if (!seen.insert(*value).second)
            error(item, fmt::format("'{}' is listed twice in {}", shown(*value), what), "keep one of them");
        else
            result.push_back({std::move(*value), &item});
    }
    return result;
}

const std::vector<YamlNode>& NodeReader::items(const YamlNode& node, std::string_view what,
                                               std::string_view example) const
{
    if (node.kind != Kind::sequence)
        error(node, fmt::format("{} must be a list, not {}", what, kind_word(node.kind)),
              fmt::format("write `{}`", example));
    else if (node.items.empty())
        error(node, fmt::format("{} is an empty list", what), "name something, or remove the key");
    return node.items;
}

std::optional<std::size_t> NodeReader::choice(const YamlNode& node, std::string_view what,
                                              const std::vector<std::string_view>& words) const
{
    const auto value = text(node, what);
    if (!value)
        return std::nullopt;
    const auto found = std::find(words.begin(), words.end(), *value);
    if (found != words.end())
        return static_cast<std::size_t>(found - words.begin());
    error(node, fmt::format("{} cannot be '{}'", what, shown(*value)),
          fmt::format("one of: {}", fmt::join(words, ", ")));
    return std::nullopt;
}

std::optional<Cidr> NodeReader::cidr(const Text& text) const
{
    Cidr::ParseError reason{};
    if (const auto parsed = Cidr::parse(text.text, &reason))
        return parsed;
    if (reason == Cidr::ParseError::host_bits) {
        const auto meant = without_host_bits(text.text);
        error(*text.node, fmt::format("{} has bits set after the prefix", text.text),
              fmt::format("write {}, or {} for that one address", meant->to_string(),
                          text.text.substr(0, text.text.find('/'))));
    } else if (const auto address = IpAddress::parse(text.text.substr(0, text.text.find('/')))) {
        error(*text.node, fmt::format("'{}' has no good prefix length", shown(text.text)),
              fmt::format("write 0 to {} after the '/'", address->is_v4() ? 32 : 128));
    } else {
        error(*text.node, fmt::format("'{}' is neither an address nor a CIDR", shown(text.text)),
              "write for example 10.9.0.0/24, \"2001:db8:9::/64\" or 192.0.2.1");
    }
    return std::nullopt;
}

bool NodeReader::label_key(const YamlNode& node) const
{
    const auto& key = node.text;
    if (!key.empty() && key.size() <= longest_label && is_alphanumeric(key.front()) && consists_of(key, "._/-"))
        return true;
    error(node, fmt::format("'{}' cannot be the key of a label", shown(key)),
          "use letters, digits, '.', '_', '/' and '-', a letter or digit first");
    return false;
}

bool NodeReader::label_value(const Text& text) const
{
    if (text.text.size() <= longest_label && consists_of(text.text, "._/:@+-"))
        return true;
    error(*text.node, fmt::format("'{}' cannot be the value of a label", shown(text.text)),
          "use letters, digits and ._/:@+-");
    return false;
}

std::optional<std::chrono::seconds> parse_duration(std::string_view text)
{
    constexpr std::uint64_t longest = 30ULL * 24 * 3600;
    std::uint64_t total = 0;
    while (!text.empty()) {
        std::uint64_t count = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), count);
        text.remove_prefix(static_cast<std::size_t>(end - text.data()));
        if (code != std::errc{} || text.empty() || count > longest)
            return std::nullopt;
        switch (text.front()) {
        case 's': break;
        case 'm': count *= 60; break;
        case 'h': count *= 3600; break;
        case 'd': count *= 86400; break;
        default: return std::nullopt;
        }
        text.remove_prefix(1);
        total += count;
        if (total > longest)
            return std::nullopt;
    }
    if (total == 0)
        return std::nullopt;
    return std::chrono::seconds(total);
}

} // namespace bulkhead::policy
