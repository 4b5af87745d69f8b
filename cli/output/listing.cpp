// SPDX-License-Identifier: Apache-2.0
#include "cli/output/listing.h"

#include "common/record/utf8.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <array>
#include <ostream>

namespace bulkhead::cli {
namespace {

// Columns on a terminal: code points, near enough for names and addresses.
std::size_t width(std::string_view text)
{
    return static_cast<std::size_t>(std::count_if(
        text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

void print_row(const std::vector<std::string>& row, const std::vector<std::size_t>& widths, std::ostream& out)
{
    for (std::size_t i = 0; i < row.size(); ++i) {
        out << row[i];
        if (i + 1 < row.size())
            out << std::string(widths[i] - std::min(widths[i], width(row[i])) + 2, ' ');
    }
    out << '\n';
}

void print_table(const Listing& listing, std::ostream& out)
{
    if (listing.rows.empty()) {
        if (!listing.when_empty.empty())
            out << listing.when_empty << '\n';
        return;
    }
    std::vector<std::vector<std::string>> rows{listing.columns};
    for (const auto& row : listing.rows) {
        auto& shown = rows.emplace_back();
        for (const auto& cell : row)
            shown.push_back(cell.empty() ? "-" : printable(cell));
    }
    std::vector<std::size_t> widths(listing.columns.size(), 0);
    for (const auto& row : rows)
        for (std::size_t i = 0; i < row.size(); ++i)
            widths[i] = std::max(widths[i], width(row[i]));
    for (const auto& row : rows)
        print_row(row, widths, out);
}

// A plain scalar that a YAML reader takes for the string it is, and not for a number or a boolean. Others are quoted.
bool reads_as_text(const std::string& text)
{
    constexpr std::array<std::string_view, 9> words{"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
    std::string lower;
    for (const char c : text)
        lower.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    const bool begins_as_word = !lower.empty() && ((lower[0] >= 'a' && lower[0] <= 'z') || lower[0] == '/');
    return begins_as_word && std::find(words.begin(), words.end(), lower) == words.end();
}

template <typename Replacement>
std::string replace_controls(std::string_view text, std::string_view kept, Replacement replacement)
{
    std::string shown;
    shown.reserve(text.size());
    while (!text.empty()) {
        const auto [value, length] = record::next_code_point(text);
        if (record::is_control(value) &&
            (value > 0x7f || kept.find(static_cast<char>(value)) == std::string_view::npos))
            shown += replacement(value);
        else if (value == record::replacement_character)
            shown += "\xef\xbf\xbd";
        else
            shown += text.substr(0, length);
        text.remove_prefix(length);
    }
    return shown;
}

void emit(const Json& value, YAML::Emitter& yaml)
{
    if (value.is_object()) {
        yaml << YAML::BeginMap;
        for (const auto& [key, member] : value.items()) {
            yaml << YAML::Key << key << YAML::Value;
            emit(member, yaml);
        }
        yaml << YAML::EndMap;
    } else if (value.is_array()) {
        yaml << YAML::BeginSeq;
        for (const auto& member : value)
            emit(member, yaml);
        yaml << YAML::EndSeq;
    } else if (value.is_string()) {
        const auto text = value.get<std::string>();
        if (!reads_as_text(text))
            yaml << YAML::DoubleQuoted;
        yaml << text;
    } else if (value.is_null()) {
        yaml << YAML::Null;
    } else if (value.is_boolean()) {
        yaml << value.get<bool>();
    } else {
        yaml << value.dump();
    }
}

} // namespace

void print_document(const Json& document, Format format, std::ostream& out)
{
    if (format == Format::yaml) {
        YAML::Emitter yaml;
        emit(document, yaml);
        out << printable_text(yaml.c_str()) << '\n';
        return;
    }
    // Outside of strings JSON has no control characters but the line ends of the layout.
    out << replace_controls(document.dump(2, ' ', false, Json::error_handler_t::replace), "\n", [](char32_t c) {
        return fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    }) << '\n';
}

void print(const Listing& listing, Format format, std::ostream& out)
{
    if (format == Format::table)
        print_table(listing, out);
    else
        print_document(listing.data, format, out);
}

std::string printable(std::string_view text)
{
    return replace_controls(text, "", [](char32_t) { return std::string("?"); });
}

std::string printable_text(std::string_view text)
{
    return replace_controls(text, "\n\t", [](char32_t) { return std::string("?"); });
}

std::string join(const std::vector<std::string>& parts, std::string_view separator)
{
    return fmt::format("{}", fmt::join(parts, separator));
}

std::string labels_text(const std::map<std::string, std::string>& labels)
{
    std::vector<std::string> parts;
    for (const auto& [key, value] : labels)
        parts.push_back(key + "=" + value);
    return join(parts, ",");
}

std::string age_text(std::int64_t unix_micros, std::int64_t now_micros)
{
    if (unix_micros == 0)
        return "never";
    const auto seconds = std::max<std::int64_t>(0, (now_micros - unix_micros) / 1'000'000);
    if (seconds < 120)
        return fmt::format("{}s ago", seconds);
    if (seconds < 7200)
        return fmt::format("{}m ago", seconds / 60);
    if (seconds < 172'800)
        return fmt::format("{}h ago", seconds / 3600);
    return fmt::format("{}d ago", seconds / 86'400);
}

std::string bytes_text(std::uint64_t bytes)
{
    constexpr std::array<std::string_view, 4> units{"KiB", "MiB", "GiB", "TiB"};
    if (bytes < 1024)
        return fmt::format("{} B", bytes);
    double amount = static_cast<double>(bytes) / 1024;
    std::size_t unit = 0;
    for (; amount >= 1024 && unit + 1 < units.size(); ++unit)
        amount /= 1024;
    return fmt::format("{:.1f} {}", amount, units[unit]);
}

} // namespace bulkhead::cli
