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

// Changed only where it has to be: to ask for the string that can be changed makes one where none is set.
template <typename Message>
void fix(Message& message, const std::string& (Message::*text)() const, std::string* (Message::*to_change)())
{
    if (!is_utf8((message.*text)()))
        *(message.*to_change)() = to_utf8((message.*text)());
}

void fix_endpoint(v1::Endpoint& endpoint)
{
    fix(endpoint, &v1::Endpoint::workload, &v1::Endpoint::mutable_workload);
    for (auto& segment : *endpoint.mutable_segments())
        if (!is_utf8(segment))
            segment = to_utf8(segment);
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
    using P = v1::Process;
    fix(process, &P::exe, &P::mutable_exe);
    fix(process, &P::comm, &P::mutable_comm);
    fix(process, &P::cmdline, &P::mutable_cmdline);
    fix(process, &P::user, &P::mutable_user);
    fix(process, &P::unit, &P::mutable_unit);
    fix(process, &P::cgroup, &P::mutable_cgroup);
    fix(process, &P::container, &P::mutable_container);
    fix(process, &P::parent_exe, &P::mutable_parent_exe);
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
    using R = v1::Record;
    fix(record, &R::host, &R::mutable_host);
    fix(record, &R::agent_id, &R::mutable_agent_id);
    fix(record, &R::boot_id, &R::mutable_boot_id);
    fix(record, &R::rule, &R::mutable_rule);
    fix(record, &R::shadow_rule, &R::mutable_shadow_rule);
    fix(record, &R::community_id, &R::mutable_community_id);
    if (record.has_src())
        fix_endpoint(*record.mutable_src());
    if (record.has_dst())
        fix_endpoint(*record.mutable_dst());
    if (record.has_tcp())
        fix(*record.mutable_tcp(), &v1::Tcp::state, &v1::Tcp::mutable_state);
    if (record.has_process())
        fix_process(*record.mutable_process());
    if (record.has_lost())
        fix(*record.mutable_lost(), &v1::Lost::where, &v1::Lost::mutable_where);
    if (record.has_audit()) {
        auto& audit = *record.mutable_audit();
        using A = v1::Audit;
        fix(audit, &A::actor, &A::mutable_actor);
        fix(audit, &A::action, &A::mutable_action);
        fix(audit, &A::object, &A::mutable_object);
        fix(audit, &A::message, &A::mutable_message);
    }
}

} // namespace bulkhead::record
