// SPDX-License-Identifier: Apache-2.0
#include "agent/events/exchanges.h"

#include "agent/events/judgement.h"

#include <netinet/in.h>

#include <algorithm>

namespace bulkhead::agent {
namespace {

constexpr auto unlisted = std::chrono::seconds(5); // one listing may miss an entry that moves

std::string bytes_of(const bh_exchange_key& key)
{
    return {reinterpret_cast<const char*>(&key), sizeof(key)};
}

// As the kernel has it; the event has an echo's identifier where others have the cookie.
bh_exchange_key key_of(const bh_event& event)
{
    const bool inward = event.direction == BH_INBOUND;
    const bool ports = event.protocol == IPPROTO_TCP || event.protocol == IPPROTO_UDP;
    bh_exchange_key key{};
    key.from = inward ? event.remote : event.local;
    key.to = inward ? event.local : event.remote;
    key.protocol = event.protocol;
    key.from_port = static_cast<std::uint16_t>(event.cookie);
    if (ports) {
        key.from_port = inward ? event.remote_port : event.local_port;
        key.to_port = inward ? event.local_port : event.remote_port;
    }
    return key;
}

FlowId id_of(const HostIdentity& host, const bh_event& event)
{
    const auto tuple = tuple_of(event, host.netns);
    FlowKey key{event.cookie, tuple.remote, tuple.remote_port, tuple.local_port, tuple.protocol, tuple.netns};
    return make_flow_id(host.boot_id, host.agent_id, key, tuple, event.time_ns);
}

} // namespace

void Exchanges::on_first(const bh_event& event, SharedProcess process)
{
    Open opened;
    auto& flow = opened.flow;
    flow.tuple = tuple_of(event, records_.host().netns);
    flow.direction = direction_of_event(event);
    flow.forwarded = event.direction == BH_FORWARDED;
    if (event.protocol == IPPROTO_ICMP || event.protocol == IPPROTO_ICMPV6)
        flow.icmp = IcmpKind{event.icmp_type, event.icmp_code};
    flow.id = id_of(records_.host(), event);
    flow.opened = flow.last = opened.last = opened.listed = time_of(event);
    flow.process = std::move(process);
    flow.words = records_.attribute(judgement_of(event));
    records_.emit(records_.flow(flow, v1::Record::OPEN, *flow.opened));
    auto key = bytes_of(key_of(event));
    if (const auto before = open_.find(key); before != open_.end()) {
        records_.emit(records_.flow(before->second.flow, v1::Record::CLOSE, before->second.last));
        open_.erase(before);
    }
    if (open_.size() < limit_)
        open_.emplace(std::move(key), std::move(opened));
}

void Exchanges::note(const KernelExchanges& listed, MonotonicTime now)
{
    for (const auto& [key, exchange] : listed) {
        const auto known = open_.find(bytes_of(key));
        if (known == open_.end())
            continue;
        known->second.listed = now;
        known->second.last = std::max(known->second.last, MonotonicTime(static_cast<std::int64_t>(exchange.last_ns)));
    }
    std::erase_if(open_, [&](const auto& entry) {
        const auto& [key, one] = entry;
        const MonotonicTime idle(BH_EXCHANGE_LONGEST_IDLE_NS(one.flow.tuple));
        if (now - one.listed <= unlisted && now - one.last <= idle)
            return false;
        records_.emit(records_.flow(one.flow, v1::Record::CLOSE, one.last));
        return true;
    });
}

} // namespace bulkhead::agent
