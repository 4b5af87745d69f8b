// SPDX-License-Identifier: Apache-2.0
#include "common/record/utf8.h"

#include <algorithm>

namespace bulkhead::record
{
namespace
{

void append_utf8(char32_t value, std::string& out)
{
    const auto byte = [&out](char32_t bits) { out.push_back(static_cast<char>(bits)); };
    if (value < 0x80) {
        byte(value);
    } else if (value < 0x800) {
        byte(0xc0 | (value >> 6));
        byte(0x80 | (value & 0x3f));
    } else if (value < 0x10000) {
        byte(0xe0 | (value >> 12));
        byte(0x80 | ((value >> 6) & 0x3f));
        byte(0x80 | (value & 0x3f));
    } else {
        byte(0xf0 | (value >> 18));
        byte(0x80 | ((value >> 12) & 0x3f));
        byte(0x80 | ((value >> 6) & 0x3f));
        byte(0x80 | (value & 0x3f));
    }
}

bool is_ascii(std::string_view text)
{
    return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

void fix(std::string* text)
{
    if (!is_utf8(*text))
        *text = to_utf8(*text);
}

void fix_endpoint(v1::Endpoint& endpoint)
{
    fix(endpoint.mutable_workload());
    for (auto& segment : *endpoint.mutable_segments())
        fix(&segment);
    const bool good = std::all_of(endpoint.labels().begin(), endpoint.labels().end(),
                                  [](const auto& label) { return is_utf8(label.first) && is_utf8(label.second); });
    if (good)
        return;
    const auto labels = endpoint.labels();
    endpoint.clear_labels();
    for (const auto& [key, value] : labels)
        (*endpoint.mutable_labels())[to_utf8(key)] = to_utf8(value);
}

void fix_process(v1::Process& process)
{
    for (auto* text :
         {process.mutable_exe(), process.mutable_comm(), process.mutable_cmdline(), process.mutable_user(),
          process.mutable_unit(), process.mutable_cgroup(), process.mutable_container(), process.mutable_parent_exe()})
        fix(text);
}

} // namespace

CodePoint next_code_point(std::string_view text)
{
    const auto byte = [&text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char lead = byte(0);
    if (lead < 0x80)
        return {lead, 1};
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() < length)
        return {};
    auto value = static_cast<char32_t>(lead & (0x7fU >> length));
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80)
            return {};
        value = (value << 6) | (byte(i) & 0x3fU);
    }
    const bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
    const bool surrogate = value >= 0xd800 && value <= 0xdfff;
    if (overlong || surrogate || value > 0x10ffff)
        return {};
    return {value, length};
}

bool is_utf8(std::string_view text)
{
    if (is_ascii(text))
        return true;
    while (!text.empty()) {
        const auto [value, length] = next_code_point(text);
        if (value == replacement_character && length == 1)
            return false;
        text.remove_prefix(length);
    }
    return true;
}

std::string to_utf8(std::string_view text)
{
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
        const auto [value, length] = next_code_point(text);
        append_utf8(value, result);
        text.remove_prefix(length);
    }
    return result;
}

bool is_control(char32_t c)
{
    return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069);
}

void make_utf8(v1::Record& record)
{
    for (auto* text : {record.mutable_host(), record.mutable_agent_id(), record.mutable_boot_id(),
                       record.mutable_rule(), record.mutable_shadow_rule(), record.mutable_community_id()})
        fix(text);
    if (record.has_src())
        fix_endpoint(*record.mutable_src());
    if (record.has_dst())
        fix_endpoint(*record.mutable_dst());
    if (record.has_tcp())
        fix(record.mutable_tcp()->mutable_state());
    if (record.has_process())
        fix_process(*record.mutable_process());
    if (record.has_lost())
        fix(record.mutable_lost()->mutable_where());
    if (record.has_audit()) {
        auto& audit = *record.mutable_audit();
        for (auto* text :
             {audit.mutable_actor(), audit.mutable_action(), audit.mutable_object(), audit.mutable_message()})
            fix(text);
    }
}

} // namespace bulkhead::record
