// SPDX-License-Identifier: Apache-2.0
#include "common/core/timestamp.h"
#include "common/record/json.h"
#include "common/record/names.h"
#include "common/wire/wire.h"

#include <nlohmann/json.hpp>

#include <limits>

namespace bulkhead::record {
namespace {

using Json = nlohmann::json;

// A record of ours is under 8 KiB (the command line is the longest field) and three levels deep.
constexpr std::size_t max_line_bytes = 1U << 20;
constexpr int max_depth = 8;

// Reads the members of one object. The first member of a wrong type or value is kept as the error.
class ObjectReader {
public:
    ObjectReader(const Json& object, std::string path) : object_(object), path_(std::move(path)) {}

    template <typename Set>
    void text(const char* name, Set set)
    {
        const Json* value = member(name);
        if (value == nullptr)
            return;
        if (const auto* text = value->get_ptr<const std::string*>())
            set(*text);
        else
            wrong(name, "a string");
    }

    template <typename Number = std::uint64_t, typename Set>
    void number(const char* name, Set set)
    {
        const Json* value = member(name);
        if (value == nullptr)
            return;
        const auto* number = value->get_ptr<const Json::number_unsigned_t*>();
        if (number != nullptr && *number <= std::numeric_limits<Number>::max())
            set(static_cast<Number>(*number));
        else
            wrong(name, "a whole number that fits");
    }

    // A word of a fixed vocabulary: `parse` gives nullopt for another.
    template <typename Parse, typename Set>
    void word(const char* name, Parse parse, Set set)
    {
        text(name, [&](const std::string& value) {
            if (const auto parsed = parse(value))
                set(*parsed);
            else
                wrong(name, "a value that is known");
        });
    }

    template <typename Read>
    void object(const char* name, Read read)
    {
        const Json* value = member(name);
        if (value == nullptr)
            return;
        if (!value->is_object())
            return wrong(name, "an object");
        ObjectReader inner(*value, path_ + name + ".");
        read(inner);
        if (status_ && !inner.status_)
            status_ = std::move(inner.status_);
    }

    template <typename Each>
    void strings(const char* name, Each each)
    {
        const Json* value = member(name);
        if (value == nullptr)
            return;
        if (!value->is_array())
            return wrong(name, "an array");
        for (const auto& item : *value) {
            if (const auto* text = item.get_ptr<const std::string*>())
                each(*text);
            else
                wrong(name, "an array of strings");
        }
    }

    template <typename Each>
    void each_text(Each each)
    {
        for (const auto& [key, value] : object_.items()) {
            if (const auto* text = value.template get_ptr<const std::string*>())
                each(key, *text);
            else
                wrong(key, "a string");
        }
    }

    void wrong(const std::string& name, std::string_view wanted)
    {
        if (status_)
            status_ = fail(ErrorKind::invalid, "record: {}{} is not {}", path_, name, wanted);
    }

    [[nodiscard]] const Json* member(const char* name) const
    {
        const auto found = object_.find(name);
        return found == object_.end() ? nullptr : &*found;
    }
    [[nodiscard]] Status take_status() { return std::move(status_); }

private:
    const Json& object_;
    std::string path_;
    Status status_;
};

std::optional<std::string> parse_hex(const std::string& text)
{
    const auto digit = [](char c) {
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                      : -1;
    };
    if (text.size() % 2 != 0)
        return std::nullopt;
    std::string bytes;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = digit(text[i]);
        const int low = digit(text[i + 1]);
        if (high < 0 || low < 0)
            return std::nullopt;
        bytes.push_back(static_cast<char>(high * 16 + low));
    }
    return bytes;
}

void read_endpoint(ObjectReader& in, v1::Endpoint& endpoint)
{
    in.word("ip", IpAddress::parse, [&](const IpAddress& ip) { endpoint.set_ip(wire::to_wire(ip)); });
    in.number<std::uint16_t>("port", [&](auto value) { endpoint.set_port(value); });
    in.text("workload", [&](const auto& value) { endpoint.set_workload(value); });
    in.strings("segments", [&](const auto& value) { endpoint.add_segments(value); });
    in.object("labels", [&](ObjectReader& labels) {
        labels.each_text([&](const auto& key, const auto& value) { (*endpoint.mutable_labels())[key] = value; });
    });
    in.number<std::uint32_t>("identity", [&](auto value) { endpoint.set_identity(value); });
}

void read_process(ObjectReader& in, v1::Process& process)
{
    in.number<std::uint32_t>("pid", [&](auto value) { process.set_pid(value); });
    in.number<std::uint32_t>("ppid", [&](auto value) { process.set_ppid(value); });
    in.text("exe", [&](const auto& value) { process.set_exe(value); });
    in.text("comm", [&](const auto& value) { process.set_comm(value); });
    in.text("cmdline", [&](const auto& value) { process.set_cmdline(value); });
    in.number<std::uint32_t>("uid", [&](auto value) { process.set_uid(value); });
    in.text("user", [&](const auto& value) { process.set_user(value); });
    in.number<std::uint32_t>("login_uid", [&](auto value) { process.set_login_uid(value); });
    in.text("unit", [&](const auto& value) { process.set_unit(value); });
    in.text("cgroup", [&](const auto& value) { process.set_cgroup(value); });
    in.text("container", [&](const auto& value) { process.set_container(value); });
    in.text("parent_exe", [&](const auto& value) { process.set_parent_exe(value); });
}

void read_protocol(ObjectReader& in, v1::Record& record)
{
    const Json* value = in.member("protocol");
    if (value == nullptr)
        return;
    if (value->is_string())
        in.word("protocol", parse_protocol, [&](auto number) { record.set_protocol(number); });
    else
        in.number<std::uint8_t>("protocol", [&](auto number) { record.set_protocol(number); });
}

void read_traffic(ObjectReader& in, v1::Record& record)
{
    in.number("bytes_out", [&](auto value) { record.set_bytes_out(value); });
    in.number("bytes_in", [&](auto value) { record.set_bytes_in(value); });
    in.number("packets_out", [&](auto value) { record.set_packets_out(value); });
    in.number("packets_in", [&](auto value) { record.set_packets_in(value); });
    in.number("duration_us", [&](auto value) { record.set_duration_us(value); });
    in.object("icmp", [&](ObjectReader& icmp) {
        auto& message = *record.mutable_icmp();
        icmp.number("type", [&](auto value) { message.set_type(static_cast<std::uint32_t>(value)); });
        icmp.number("code", [&](auto value) { message.set_code(static_cast<std::uint32_t>(value)); });
    });
    in.object("tcp", [&](ObjectReader& tcp) {
        auto& message = *record.mutable_tcp();
        tcp.text("state", [&](const auto& value) { message.set_state(value); });
        tcp.number("rtt_us", [&](auto value) { message.set_rtt_us(value); });
        tcp.number("retransmits", [&](auto value) { message.set_retransmits(value); });
    });
}

void read_verdict(ObjectReader& in, v1::Record& record)
{
    in.word("direction", parse_direction, [&](auto value) { record.set_direction(value); });
    in.word("verdict", parse_verdict, [&](auto value) { record.set_verdict(value); });
    in.word("reason", parse_reason, [&](auto value) { record.set_reason(value); });
    in.word("shadow_verdict", parse_verdict, [&](auto value) { record.set_shadow_verdict(value); });
    in.text("rule", [&](const auto& value) { record.set_rule(value); });
    in.text("shadow_rule", [&](const auto& value) { record.set_shadow_rule(value); });
    in.number("policy_version", [&](auto value) { record.set_policy_version(value); });
}

void read_lost_and_audit(ObjectReader& in, v1::Record& record)
{
    in.object("lost", [&](ObjectReader& lost) {
        auto& message = *record.mutable_lost();
        lost.number("count", [&](auto value) { message.set_count(value); });
        lost.text("where", [&](const auto& value) { message.set_where(value); });
        lost.number("from_seq", [&](auto value) { message.set_from_seq(value); });
        lost.number("to_seq", [&](auto value) { message.set_to_seq(value); });
    });
    in.object("audit", [&](ObjectReader& audit) {
        auto& message = *record.mutable_audit();
        audit.text("actor", [&](const auto& value) { message.set_actor(value); });
        audit.text("action", [&](const auto& value) { message.set_action(value); });
        audit.text("object", [&](const auto& value) { message.set_object(value); });
        audit.text("message", [&](const auto& value) { message.set_message(value); });
    });
}

Result<Json> parse_object(std::string_view line)
{
    if (line.size() > max_line_bytes)
        return fail(ErrorKind::invalid, "record: a line of {} bytes; at most {} are read", line.size(), max_line_bytes);
    bool too_deep = false;
    const Json::parser_callback_t bound = [&too_deep](int depth, Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > max_depth;
        return depth <= max_depth;
    };
    auto json = Json::parse(line.begin(), line.end(), bound, /*allow_exceptions=*/false);
    if (too_deep)
        return fail(ErrorKind::invalid, "record: nested more than {} deep", max_depth);
    if (json.is_discarded())
        return fail(ErrorKind::invalid, "record: no valid JSON");
    if (!json.is_object())
        return fail(ErrorKind::invalid, "record: no JSON object");
    return json;
}

} // namespace

Result<v1::Record> from_json(std::string_view line)
{
    BULKHEAD_TRY(const Json json, parse_object(line));
    v1::Record record;
    ObjectReader in(json, "");
    in.word("time", parse_rfc3339_micros, [&](auto value) { record.set_time_us(value); });
    in.word("kind", parse_kind, [&](auto value) { record.set_kind(value); });
    in.word("event", parse_event, [&](auto value) { record.set_event(value); });
    in.word("flow_id", parse_hex, [&](const auto& value) { record.set_flow_id(value); });
    in.text("host", [&](const auto& value) { record.set_host(value); });
    in.text("agent_id", [&](const auto& value) { record.set_agent_id(value); });
    in.text("boot_id", [&](const auto& value) { record.set_boot_id(value); });
    in.number("seq", [&](auto value) { record.set_seq(value); });
    read_verdict(in, record);
    in.object("src", [&](ObjectReader& src) { read_endpoint(src, *record.mutable_src()); });
    in.object("dst", [&](ObjectReader& dst) { read_endpoint(dst, *record.mutable_dst()); });
    read_protocol(in, record);
    read_traffic(in, record);
    in.object("process", [&](ObjectReader& process) { read_process(process, *record.mutable_process()); });
    in.number("count", [&](auto value) { record.set_count(value); });
    in.object("ports", [&](ObjectReader& ports) {
        ports.number<std::uint32_t>("lowest", [&](auto value) { record.mutable_ports()->set_lowest(value); });
        ports.number<std::uint32_t>("highest", [&](auto value) { record.mutable_ports()->set_highest(value); });
    });
    in.text("community_id", [&](const auto& value) { record.set_community_id(value); });
    read_lost_and_audit(in, record);
    BULKHEAD_CHECK(in.take_status());
    return record;
}

} // namespace bulkhead::record
