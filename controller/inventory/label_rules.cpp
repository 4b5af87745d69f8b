// SPDX-License-Identifier: Apache-2.0
#include "controller/inventory/label_rules.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

constexpr std::size_t max_name_bytes = 253; // RFC 1035, section 2.3.4, in text form
constexpr std::size_t max_label_bytes = 256;

bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool printable(std::string_view text)
{
    return std::all_of(text.begin(), text.end(), [](char c) {
        return static_cast<unsigned char>(c) > 0x20 && c != 0x7f && c != ',' && c != '=' && c != '*';
    });
}

} // namespace

bool valid_hostname(std::string_view name)
{
    return !name.empty() && name.size() <= max_name_bytes && is_alphanumeric(name.front()) &&
           std::all_of(name.begin(), name.end(),
                       [](char c) { return is_alphanumeric(c) || c == '-' || c == '.' || c == '_'; });
}

bool valid_label(std::string_view key, std::string_view value)
{
    return !key.empty() && key.size() <= max_label_bytes && value.size() <= max_label_bytes && printable(key) &&
           printable(value);
}

Status check_labels(const policy::Labels& labels)
{
    if (labels.size() > max_labels)
        return fail(ErrorKind::usage, "{} labels; at most {} are possible", labels.size(), max_labels);
    for (const auto& [key, value] : labels)
        if (!valid_label(key, value))
            return tl::unexpected<Error>(
                Error{ErrorKind::usage, fmt::format("'{}={}' is no label", key, value),
                      "write key=value without spaces, ',', '=' and '*', each of at most 256 bytes"});
    return {};
}

} // namespace bulkhead::controller
