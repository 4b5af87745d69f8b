// SPDX-License-Identifier: Apache-2.0
#include "cli/output/record_line.h"

#include "cli/output/listing.h"
#include "common/core/clock.h"
#include "common/record/json.h"

#include <fmt/format.h>

namespace bulkhead::cli {
namespace {

std::string endpoint(const v1::Endpoint& end)
{
    const auto ip = record::ip_to_string(end.ip());
    if (end.workload().empty())
        return ip.empty() ? "several hosts" : ip;
    return ip.empty() ? end.workload() : end.workload() + " " + ip;
}

std::string destination(const v1::Record& record)
{
    auto text = endpoint(record.dst());
    if (record.has_ports())
        return text + fmt::format(" ports {}-{}", record.ports().lowest(), record.ports().highest());
    if (record.dst().port() == 0)
        return text;
    const bool v6 = record.dst().ip().size() == 16;
    return text + (v6 ? " port " : ":") + std::to_string(record.dst().port());
}

std::string_view direction_word(v1::Record::Direction direction)
{
    switch (direction) {
    case v1::Record::INBOUND: return "in ";
    case v1::Record::OUTBOUND: return "out";
    case v1::Record::FORWARDED: return "fwd";
    default: return "   ";
    }
}

std::string verdict_word(const v1::Record& record)
{
    switch (record.verdict()) {
    case v1::Record::DENIED: return "DENIED";
    case v1::Record::WOULD_DENY: return "WOULD-DENY";
    case v1::Record::ALLOWED: return std::string(record::to_string(record.event()));
    default: return std::string(record::to_string(record.kind()));
    }
}

std::string_view colour_code(const v1::Record& record)
{
    switch (record.verdict()) {
    case v1::Record::DENIED: return "\x1b[31m";
    case v1::Record::WOULD_DENY: return "\x1b[33m";
    default: return record.kind() == v1::Record::GAP ? "\x1b[35m" : "\x1b[32m";
    }
}

std::string process_text(const v1::Process& process)
{
    const auto slash = process.exe().rfind('/');
    auto name =
        process.exe().empty() ? process.comm() : process.exe().substr(slash == std::string::npos ? 0 : slash + 1);
    if (name.empty())
        return {};
    std::string text = process.pid() != 0 ? fmt::format("{}[{}]", name, process.pid()) : name;
    if (!process.unit().empty())
        text += " " + process.unit();
    return text;
}

std::string amounts(const v1::Record& record)
{
    std::string text;
    if (record.has_bytes_out() || record.has_bytes_in())
        text += fmt::format("  {} out, {} in", bytes_text(record.bytes_out()), bytes_text(record.bytes_in()));
    if (record.has_duration_us())
        text += fmt::format("  {:.3f}s", static_cast<double>(record.duration_us()) / 1e6);
    if (record.count() > 1)
        text += fmt::format("  x{}", record.count());
    return text;
}

std::string why(const v1::Record& record)
{
    // What the shadow plane says is the news of a would-deny.
    const auto& rule = record.verdict() == v1::Record::WOULD_DENY && !record.shadow_rule().empty()
                           ? record.shadow_rule()
                           : record.rule();
    return rule.empty() ? std::string(record::to_string(record.reason())) : rule;
}

std::string body(const v1::Record& record)
{
    if (record.kind() == v1::Record::GAP)
        return fmt::format("{}: {} records lost in the {}{}", record.host(), record.lost().count(),
                           record.lost().where(),
                           record.lost().from_seq() == 0
                               ? ""
                               : fmt::format(", numbers {} to {}", record.lost().from_seq(), record.lost().to_seq()));
    if (record.kind() == v1::Record::AUDIT)
        return fmt::format("{}: {} {} {} {}", record.host(), record.audit().actor(), record.audit().action(),
                           record.audit().object(), record.audit().message());
    std::string text = fmt::format("{} {} -> {}/{}", direction_word(record.direction()), endpoint(record.src()),
                                   destination(record), record::protocol_name(record.protocol()));
    if (const auto process = process_text(record.process()); !process.empty())
        text += "  " + process;
    return text + "  " + why(record) + amounts(record);
}

} // namespace

std::string record_line(const v1::Record& record, bool colour)
{
    const auto word = fmt::format("{:<10}", verdict_word(record));
    return fmt::format("{} {}{}{} {}", format_rfc3339_micros(record.time_us()), colour ? colour_code(record) : "", word,
                       colour ? "\x1b[0m" : "", printable(body(record)));
}

} // namespace bulkhead::cli
