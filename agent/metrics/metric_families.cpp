// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/metric_families.h"

#include <map>
#include <set>
#include <string>
#include <utility>

namespace bulkhead::agent {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<std::pair<std::string, std::string>>;

class Families {
public:
    void add(const std::string& name, const char* help, MetricType type, double value, const Labels& labels = {})
    {
        auto& family = families_[name];
        family.name = name;
        family.help = help;
        family.type = type;
        ClientMetric metric;
        for (const auto& [key, text] : labels)
            metric.label.push_back({key, text});
        if (type == MetricType::Counter)
            metric.counter.value = value;
        else
            metric.gauge.value = value;
        family.metric.push_back(std::move(metric));
    }
    void gauge(const std::string& name, const char* help, double value, const Labels& labels = {})
    {
        add("bulkhead_" + name, help, MetricType::Gauge, value, labels);
    }
    void counter(const std::string& name, const char* help, double value, const Labels& labels = {})
    {
        add("bulkhead_" + name + "_total", help, MetricType::Counter, value, labels);
    }
    [[nodiscard]] std::vector<MetricFamily> take()
    {
        std::vector<MetricFamily> all;
        for (auto& [name, family] : families_)
            all.push_back(std::move(family));
        return all;
    }

private:
    std::map<std::string, MetricFamily> families_;
};

// "denied_in" -> {"denied", "inbound"}; false: it counts no verdicts.
bool add_verdicts(Families& families, const std::string& name, double value)
{
    static const std::map<std::string, const char*> directions{
        {"out", "outbound"}, {"in", "inbound"}, {"forwarded", "forwarded"}};
    const auto underline = name.rfind('_');
    if (underline == std::string::npos)
        return false;
    const auto direction = directions.find(name.substr(underline + 1));
    const auto what = name.substr(0, underline);
    if (direction == directions.end() || (what != "allowed" && what != "denied" && what != "would_deny"))
        return false;
    families.counter("verdicts", "Verdicts of the kernel on new connections, conversations and packets", value,
                     {{"plane", what == "would_deny" ? "shadow" : "active"},
                      {"verdict", what == "allowed" ? "allowed" : "denied"},
                      {"direction", direction->second}});
    return true;
}

void add_counter(Families& families, const std::string& name, double value)
{
    static const std::map<std::string, Labels> ring_counters{{"flow_events", {{"ring", "flow"}}},
                                                             {"deny_events", {{"ring", "deny"}}},
                                                             {"flow_lost", {{"ring", "flow"}}},
                                                             {"deny_lost", {{"ring", "deny"}}}};
    if (add_verdicts(families, name, value))
        return;
    if (const auto ring = ring_counters.find(name); ring != ring_counters.end()) {
        if (name.ends_with("_lost"))
            families.counter("kernel_events_lost", "Events that found no room in a ring", value, ring->second);
        else
            families.counter("kernel_events", "Events that the kernel put into a ring", value, ring->second);
    } else if (name == "open_flows") {
        families.gauge(name, "Flows that the agent follows now", value);
    } else {
        families.counter(name, "Counter of the same name in bulkheadctl --local status", value);
    }
}

void add_maps(Families& families, const v1::LocalStatus& status)
{
    for (const auto& map : status.maps()) {
        const auto entries = static_cast<double>(map.entries()), capacity = static_cast<double>(map.capacity());
        if (map.name().ends_with("_ring")) {
            const Labels ring{{"ring", map.name().substr(0, map.name().rfind('_'))}};
            families.gauge("ring_bytes", "Bytes that wait in a ring", entries, ring);
            families.gauge("ring_capacity_bytes", "Size of a ring", capacity, ring);
        } else {
            families.gauge("map_entries", "Entries in a table of the kernel", entries, {{"map", map.name()}});
            families.gauge("map_capacity", "Entries that a table of the kernel has room for", capacity,
                           {{"map", map.name()}});
        }
    }
}

void add_policy(Families& families, const v1::LocalStatus& status, WallTime now)
{
    families.gauge("enforcing", "1 when a plane is in force", status.enforcing() ? 1 : 0);
    families.gauge("policy_version", "Version of the policy in force", static_cast<double>(status.policy_version()));
    families.gauge("policy_generation", "Switches of what the kernel enforces", status.generation());
    families.gauge("policy_refused", "1 when the newest policy was refused", status.refusal().empty() ? 0 : 1);
    if (status.enforced_since_us() == 0)
        return;
    const auto now_us = std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
    families.gauge("policy_age_seconds", "Since the last switch",
                   static_cast<double>(now_us - status.enforced_since_us()) / 1e6);
    families.gauge("realise_seconds", "What the last switch took", static_cast<double>(status.realise_us()) / 1e6);
}

void add_records(Families& families, const v1::LocalStatus& status)
{
    const auto next = status.spool_next_seq();
    families.counter("records_written", "Records that were given a number",
                     static_cast<double>(next == 0 ? 0 : next - 1));
    families.counter("records_delivered", "Records that the controller has confirmed",
                     static_cast<double>(status.acked_seq()));
    families.counter("records_lost", "Records that were lost after the kernel; each is in a gap record",
                     static_cast<double>(status.records_lost()));
    families.gauge("spool_bytes", "Size of the spool on disk", static_cast<double>(status.spool_bytes()));
}

} // namespace

std::vector<MetricFamily> metric_families(const v1::LocalStatus& status, WallTime now)
{
    Families families;
    families.gauge("build_info", "Always 1", 1, {{"version", status.version()}, {"component", "agent"}});
    families.gauge("stream_connected", "1 when the controller is connected", status.connected() ? 1 : 0);
    families.gauge("warnings", "What bulkheadctl --local status warns of", status.warnings_size());
    for (const auto& counter : status.counters())
        add_counter(families, counter.name(), static_cast<double>(counter.value()));
    add_maps(families, status);
    add_policy(families, status, now);
    add_records(families, status);
    return families.take();
}

} // namespace bulkhead::agent
