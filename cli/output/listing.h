// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include <cstdint>
#include <iosfwd>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::cli {

enum class Format { table, json, yaml };
using Json = nlohmann::ordered_json;

// One answer in two shapes: rows for people, a document for programs.
struct Listing {
    std::vector<std::string> columns;
    std::vector<std::vector<std::string>> rows;
    Json data = Json::array();
    std::string when_empty; // said on the table's place when there are no rows
};

void print(const Listing& listing, Format format, std::ostream& out);
void print_document(const Json& document, Format format, std::ostream& out); // json or yaml

// Text from elsewhere (a process name, a label) on a terminal: what could move the cursor or reorder the line becomes
// '?', what is no UTF-8 U+FFFD.
[[nodiscard]] std::string printable(std::string_view text);
[[nodiscard]] std::string printable_text(std::string_view text); // keeps line ends and tabs

[[nodiscard]] std::string join(const std::vector<std::string>& parts, std::string_view separator);
[[nodiscard]] std::string labels_text(const std::map<std::string, std::string>& labels); // "app=shop,role=db"
[[nodiscard]] std::string age_text(std::int64_t unix_micros, std::int64_t now_micros);   // "12s ago", "never"
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);                               // "1.5 MiB"

} // namespace bulkhead::cli
