// SPDX-License-Identifier: Apache-2.0
#include "cli/output/listing.h"

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
        yaml << value.get<std::string>();
    } else {
        yaml << value.dump();
    }
}

} // namespace

void print_document(const Json& document, Format format, std::ostream& out)
{
    if (format == Format::yaml) {
        YAML::Emitter yaml(out);
        emit(document, yaml);
        out << '\n';
        return;
    }
    out << document.dump(2, ' ', false, Json::error_handler_t::replace) << '\n';
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
    std::string shown;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
        if (byte < 0x20 || byte == 0x7f || c1)
            shown += '?';
        else
            shown += text[i];
        i += c1 ? 1 : 0;
    }
    return shown;
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
