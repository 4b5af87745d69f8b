// SPDX-License-Identifier: Apache-2.0
#include "agent/local/map_words.h"

#include "agent/events/flow_key.h"
#include "agent/local/policy_words.h"
#include "common/policy/describe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <netinet/in.h>

namespace bulkhead::agent {
namespace {

// Takes as many lines as were asked for, and counts the others.
class Table {
public:
    Table(v1::LocalMaps& maps, const char* name, const char* what, std::size_t limit)
        : table_(*maps.add_tables()), limit_(limit)
    {
        table_.set_name(name);
        table_.set_what(what);
    }
    template <typename Word>
    void add(const Word& word)
    {
        table_.set_entries(table_.entries() + 1);
        if (limit_ == 0 || table_.entries() <= limit_)
            table_.add_lines(word());
    }
    void add_all(std::vector<std::string> lines)
    {
        for (auto& line : lines)
            add([&] { return std::move(line); });
    }

private:
    v1::KernelTable& table_;
    std::size_t limit_;
};

std::string protocol_word(std::uint8_t protocol)
{
    switch (protocol) {
    case IPPROTO_TCP: return "tcp";
    case IPPROTO_UDP: return "udp";
    case IPPROTO_ICMP: return "icmp";
    case IPPROTO_ICMPV6: return "icmpv6";
    default: return fmt::format("protocol {}", protocol);
    }
}

std::string endpoint(const bh_address& address, std::uint16_t port)
{
    const auto ip = to_ip(address);
    return ip.is_v4() ? fmt::format("{}:{}", ip.to_string(), port) : fmt::format("[{}]:{}", ip.to_string(), port);
}

std::string who(const bh_subject& subject)
{
    if (subject.pid == 0)
        return "an unknown process";
    const std::string comm(subject.comm, ::strnlen(subject.comm, sizeof subject.comm));
    return fmt::format("{} (pid {}, uid {})", comm, subject.pid, subject.uid);
}

std::string age(std::uint64_t then_ns, MonotonicTime now)
{
    const auto now_ns = static_cast<std::uint64_t>(now.count());
    return fmt::format("{} s ago", now_ns > then_ns ? (now_ns - then_ns) / 1'000'000'000 : 0);
}

std::string slot_word(std::uint32_t slot)
{
    return slot == BH_SLOT_NONE ? "none: nothing is judged" : fmt::format("slot {}", slot);
}

void describe_planes(const KernelContents& contents, v1::LocalMaps& maps)
{
    Table table(maps, "planes", "which planes decide and report, and what they say where no rule matches", 0);
    const auto& control = contents.control;
    std::vector<std::string> lines{fmt::format("active plane: {}", slot_word(control.active_slot)),
                                   fmt::format("shadow plane: {}", slot_word(control.shadow_slot))};
    if ((control.flags & BH_CONTROL_QUARANTINE) != 0)
        lines.emplace_back("quarantine: only failsafes pass");
    if (contents.trial.phase == TrialState::Phase::running)
        lines.push_back(
            fmt::format("on trial for {} s: then generation {} decides",
                        std::chrono::duration_cast<std::chrono::seconds>(contents.trial.until - contents.now).count(),
                        contents.trial.fallback_generation));
    table.add_all(std::move(lines));
    if (contents.view)
        table.add_all(describe_defaults(*contents.view));
}

std::string describe_peer(const IpAddress& address, const policy::AddressEntry& entry, const PolicyView& view)
{
    auto line = fmt::format("{} is {} (identity {}", address.to_string(),
                            entry.workload.empty() ? "a workload without a name" : entry.workload, entry.identity);
    if (const auto found = view.identities.find(entry.identity); found != view.identities.end()) {
        if (!found->second.segments.empty())
            line += fmt::format(", segment {}", fmt::join(found->second.segments, ","));
        for (const auto& [key, value] : found->second.labels)
            line += fmt::format(", {}={}", key, value);
    }
    return line + ")";
}

void describe_peers(const PolicyView& view, v1::LocalMaps& maps, std::size_t limit)
{
    Table table(maps, "peers", "addresses, the workloads that have them, and their class", limit);
    const std::map<IpAddress, policy::AddressEntry> in_order(view.addresses.begin(), view.addresses.end());
    for (const auto& [address, entry] : in_order)
        table.add([&, &peer = address, &of = entry] { return describe_peer(peer, of, view); });
}

void describe_processes(const PolicyView& view, v1::LocalMaps& maps, std::size_t limit)
{
    Table table(maps, "processes", "classes of processes that rules name; bit 0 is every process", limit);
    for (std::size_t i = 0; i < view.policy.processes.size(); ++i)
        table.add([&] { return fmt::format("bit {}: {}", i + 1, describe_process(view.policy.processes[i])); });
}

void describe_listeners(const KernelContents& contents, v1::LocalMaps& maps, std::size_t limit)
{
    Table table(maps, "listeners", "who hears where", limit);
    for (const auto& [key, listener] : contents.listeners)
        table.add([&, &at = key, &by = listener] {
            return fmt::format("{} {} {} by {}{}, network namespace {}", protocol_word(at.protocol),
                               endpoint(at.address, at.port), by.state == BH_LISTENER_LISTENING ? "heard" : "bound",
                               who(by.owner), by.mixed != 0 ? " and others" : "", at.netns);
        });
}

void describe_conversations(const KernelContents& contents, v1::LocalMaps& maps, std::size_t limit)
{
    Table table(maps, "conversations", "UDP conversations of unconnected sockets", limit);
    for (const auto& [key, flow] : contents.udp_flows)
        table.add([&, &of = key, &is = flow] {
            return fmt::format("{} local port {}, peer {}, by {}, last {}{}",
                               is.direction == BH_INBOUND ? "inbound" : "outbound", of.local_port,
                               endpoint(of.remote, of.remote_port), who(is.subject), age(is.last_ns, contents.now),
                               is.answered != 0 ? ", answered" : "");
        });
}

void describe_denials(const KernelContents& contents, v1::LocalMaps& maps, std::size_t limit)
{
    Table table(maps, "denials", "refused attempts that are counted and not reported yet", limit);
    for (const auto& denial : contents.denials) {
        if (denial.count == 0) // the first of a row is told at once, and here it was the only one
            continue;
        table.add([&] {
            const auto& first = denial.first;
            return fmt::format("{} {} {} {} {} by {}: {} more, last {}",
                               first.verdict == BH_DENIED ? "denied" : "would be denied",
                               first.direction == BH_INBOUND ? "inbound" : "outbound", protocol_word(first.protocol),
                               endpoint(first.local, first.local_port), endpoint(first.remote, first.remote_port),
                               who(first.subject), denial.count, age(denial.last_ns, contents.now));
        });
    }
}

} // namespace

v1::LocalMaps describe_maps(const KernelContents& contents, std::size_t limit)
{
    v1::LocalMaps maps;
    maps.set_generation(contents.control.generation);
    describe_planes(contents, maps);
    if (const auto& view = contents.view) {
        maps.set_policy_version(view->policy_version);
        Table(maps, "rules", "in order of precedence", limit).add_all(describe_rules(*view));
        describe_peers(*view, maps, limit);
        describe_processes(*view, maps, limit);
    }
    describe_listeners(contents, maps, limit);
    describe_conversations(contents, maps, limit);
    describe_denials(contents, maps, limit);
    return maps;
}

} // namespace bulkhead::agent
