// SPDX-License-Identifier: Apache-2.0
#include "common/core/clock.h"
#include "common/record/json.h"
#include "common/record/utf8.h"

#include <fmt/format.h>

#include <iterator>
#include <map>

namespace bulkhead::record {
namespace {

void append_string(std::string_view text, std::string& out)
{
    out.push_back('"');
    while (!text.empty()) {
        const auto [value, length] = next_code_point(text);
        if (value == '"' || value == '\\') {
            out.push_back('\\');
            out.push_back(static_cast<char>(value));
        } else if (is_control(value)) {
            fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(value));
        } else if (value == replacement_character) {
            out.append("\xef\xbf\xbd");
        } else {
            out.append(text.substr(0, length));
        }
        text.remove_prefix(length);
    }
    out.push_back('"');
}

// Writes one object; what is empty or zero is left out.
class ObjectWriter {
public:
    explicit ObjectWriter(std::string& out) : out_(out) { out_.push_back('{'); }
    ~ObjectWriter() { out_.push_back('}'); }
    ObjectWriter(const ObjectWriter&) = delete;
    ObjectWriter& operator=(const ObjectWriter&) = delete;

    void key(std::string_view name)
    {
        if (!first_)
            out_.push_back(',');
        first_ = false;
        append_string(name, out_);
        out_.push_back(':');
    }
    void text(std::string_view name, std::string_view value)
    {
        if (value.empty())
            return;
        key(name);
        append_string(value, out_);
    }
    void number(std::string_view name, std::uint64_t value)
    {
        if (value != 0)
            present(name, value);
    }
    void present(std::string_view name, std::uint64_t value)
    {
        key(name);
        fmt::format_to(std::back_inserter(out_), "{}", value);
    }

private:
    std::string& out_;
    bool first_ = true;
};

std::string hex(std::string_view bytes)
{
    std::string result;
    result.reserve(bytes.size() * 2);
    for (const char c : bytes)
        fmt::format_to(std::back_inserter(result), "{:02x}", static_cast<unsigned char>(c));
    return result;
}

void write_endpoint(const v1::Endpoint& endpoint, std::string& out)
{
    ObjectWriter object(out);
    object.text("ip", ip_to_string(endpoint.ip()));
    object.number("port", endpoint.port());
    object.text("workload", endpoint.workload());
    if (!endpoint.segments().empty()) {
        object.key("segments");
        char separator = '[';
        for (const auto& segment : endpoint.segments()) {
            out.push_back(separator);
            append_string(segment, out);
            separator = ',';
        }
        out.push_back(']');
    }
    if (!endpoint.labels().empty()) {
        object.key("labels");
        const std::map<std::string, std::string> sorted(endpoint.labels().begin(), endpoint.labels().end());
        ObjectWriter labels(out);
        for (const auto& [key, value] : sorted) {
            labels.key(key);
            append_string(value, out);
        }
    }
    object.number("identity", endpoint.identity());
}

void write_process(const v1::Process& process, std::string& out)
{
    ObjectWriter object(out);
    object.number("pid", process.pid());
    object.number("ppid", process.ppid());
    object.text("exe", process.exe());
    object.text("comm", process.comm());
    object.text("cmdline", process.cmdline());
    if (process.has_uid())
        object.present("uid", process.uid());
    object.text("user", process.user());
    if (process.has_login_uid())
        object.present("login_uid", process.login_uid());
    object.text("unit", process.unit());
    object.text("cgroup", process.cgroup());
    object.text("container", process.container());
    object.text("parent_exe", process.parent_exe());
}

void write_traffic(const v1::Record& record, ObjectWriter& object, std::string& out)
{
    if (record.has_bytes_out())
        object.present("bytes_out", record.bytes_out());
    if (record.has_bytes_in())
        object.present("bytes_in", record.bytes_in());
    if (record.has_packets_out())
        object.present("packets_out", record.packets_out());
    if (record.has_packets_in())
        object.present("packets_in", record.packets_in());
    if (record.has_duration_us())
        object.present("duration_us", record.duration_us());
    if (record.has_icmp()) {
        object.key("icmp");
        ObjectWriter icmp(out);
        icmp.present("type", record.icmp().type());
        icmp.present("code", record.icmp().code());
    }
    if (record.has_tcp()) {
        object.key("tcp");
        ObjectWriter tcp(out);
        tcp.text("state", record.tcp().state());
        tcp.number("rtt_us", record.tcp().rtt_us());
        tcp.number("retransmits", record.tcp().retransmits());
    }
}

void write_protocol(std::uint32_t number, ObjectWriter& object, std::string& out)
{
    if (number == 0)
        return;
    const auto name = protocol_name(number);
    if (name.front() >= '0' && name.front() <= '9') {
        object.present("protocol", number);
        return;
    }
    object.key("protocol");
    append_string(name, out);
}

void write_lost(const v1::Lost& lost, std::string& out)
{
    ObjectWriter object(out);
    object.present("count", lost.count());
    object.text("where", lost.where());
    object.number("from_seq", lost.from_seq());
    object.number("to_seq", lost.to_seq());
}

void write_audit(const v1::Audit& audit, std::string& out)
{
    ObjectWriter object(out);
    object.text("actor", audit.actor());
    object.text("action", audit.action());
    object.text("object", audit.object());
    object.text("message", audit.message());
}

} // namespace

std::string to_json(const v1::Record& record)
{
    std::string out;
    out.reserve(768);
    {
        ObjectWriter object(out);
        if (record.time_us() != 0)
            object.text("time", format_rfc3339_micros(record.time_us()));
        object.text("kind", to_string(record.kind()));
        object.text("event", to_string(record.event()));
        object.text("flow_id", hex(record.flow_id()));
        object.text("host", record.host());
        object.text("agent_id", record.agent_id());
        object.text("boot_id", record.boot_id());
        object.number("seq", record.seq());
        object.text("direction", to_string(record.direction()));
        object.text("verdict", to_string(record.verdict()));
        object.text("reason", to_string(record.reason()));
        object.text("shadow_verdict", to_string(record.shadow_verdict()));
        object.text("rule", record.rule());
        object.text("shadow_rule", record.shadow_rule());
        object.number("policy_version", record.policy_version());
        if (record.has_src()) {
            object.key("src");
            write_endpoint(record.src(), out);
        }
        if (record.has_dst()) {
            object.key("dst");
            write_endpoint(record.dst(), out);
        }
        write_protocol(record.protocol(), object, out);
        write_traffic(record, object, out);
        if (record.has_process()) {
            object.key("process");
            write_process(record.process(), out);
        }
        object.number("count", record.count());
        if (record.has_ports()) {
            object.key("ports");
            ObjectWriter ports(out);
            ports.number("lowest", record.ports().lowest());
            ports.number("highest", record.ports().highest());
        }
        object.text("community_id", record.community_id());
        if (record.has_lost()) {
            object.key("lost");
            write_lost(record.lost(), out);
        }
        if (record.has_audit()) {
            object.key("audit");
            write_audit(record.audit(), out);
        }
    }
    return out;
}

} // namespace bulkhead::record
