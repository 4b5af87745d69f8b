// SPDX-License-Identifier: Apache-2.0
#include "agent/events/conversations.h"

#include <netinet/in.h>

#include <algorithm>
#include <vector>

namespace bulkhead::agent {
namespace {

constexpr MonotonicTime idle{BH_UDP_IDLE_NS};
// One listing may fail, and one may be older than the flow.
constexpr auto unlisted = std::chrono::seconds(5);

MonotonicTime at(std::uint64_t kernel_ns)
{
    return MonotonicTime(static_cast<std::int64_t>(kernel_ns));
}

// The event that told of it came a moment after its beginning.
bool began_with(const Flow& flow, const bh_udp_flow& conversation)
{
    constexpr auto a_moment = std::chrono::seconds(1);
    if (!flow.opened)
        return false;
    const auto later = *flow.opened - at(conversation.opened_ns);
    return later >= MonotonicTime::zero() && later < a_moment;
}

} // namespace

void Conversations::seen(Flow& flow, const bh_udp_flow& conversation, std::uint16_t local_port, MonotonicTime now)
{
    if (flow.answers) // and is connected since, whatever it said to the same peer before
        return;
    flow.listed = now;
    flow.last = std::max(flow.last, at(conversation.last_ns));
    if (flow.tuple.local_port == 0)
        flow.tuple.local_port = local_port;
}

// Sockets of one kind of process go on with each other's conversation, and the kernel tells of that now and then only
// (BH_UDP_SIBLINGS_NS): the flow is that of the socket which is listed from then on.
void Conversations::find_taken_over(Unknown& unknown, MonotonicTime now)
{
    std::vector<std::pair<FlowKey, FlowTuple>> taken_over;
    flows_.erase_when([&](const FlowKey& key, const Flow& flow) {
        if (key.protocol != IPPROTO_UDP || key.cookie == 0 || flow.answers)
            return false;
        auto ends = flow.tuple;
        ends.local = {};
        if (const auto found = unknown.find(ends); found != unknown.end() && began_with(flow, *found->second))
            taken_over.emplace_back(key, ends);
        return false;
    });
    for (const auto& [key, ends] : taken_over) {
        const auto found = unknown.find(ends);
        if (found == unknown.end())
            continue;
        auto* flow = flows_.rename(key, FlowKey::udp(BH_OUTBOUND, found->second->cookie, ends));
        if (flow == nullptr)
            continue;
        flow->walked = false;
        flow->missing.reset();
        seen(*flow, *found->second, ends.local_port, now);
        unknown.erase(found);
    }
}

void Conversations::note(KernelConversations listed, std::uint32_t guarded_netns, MonotonicTime now, const Adopt& adopt)
{
    Unknown unknown;
    const auto adopt_older = [&](const FlowTuple& tuple, const bh_udp_flow& conversation) {
        const auto key = FlowKey::udp(conversation.direction, conversation.cookie, tuple);
        if (at(conversation.opened_ns) >= started_)
            return;
        adopt(key, tuple, conversation);
        if (auto* flow = flows_.find(key))
            seen(*flow, conversation, tuple.local_port, now);
    };
    for (const auto& [kernel_key, conversation] : listed) {
        if (now - at(conversation.last_ns) > idle)
            continue;
        const auto tuple = tuple_of(kernel_key, guarded_netns);
        if (auto* flow = flows_.find(FlowKey::udp(conversation.direction, conversation.cookie, tuple)))
            seen(*flow, conversation, tuple.local_port, now);
        else if (conversation.direction == BH_OUTBOUND)
            unknown.emplace(tuple, &conversation);
        else
            adopt_older(tuple, conversation);
    }
    if (!unknown.empty())
        find_taken_over(unknown, now);
    for (const auto& [tuple, conversation] : unknown)
        adopt_older(tuple, *conversation);
}

std::optional<MonotonicTime> Conversations::end_of(const Flow& flow, MonotonicTime now) const
{
    const bool connected = flow.answers || (!flow.listed && flow.direction == policy::Direction::outbound);
    if (connected)
        return std::nullopt;
    const bool dropped = flow.listed && now - *flow.listed > unlisted;
    if (dropped || now - flow.last > idle)
        return flow.last;
    return std::nullopt;
}

} // namespace bulkhead::agent
