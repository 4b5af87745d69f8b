// SPDX-License-Identifier: Apache-2.0
#include "agent/events/conversations.h"

namespace bulkhead::agent {
namespace {

constexpr MonotonicTime idle{BH_UDP_IDLE_NS};
// One listing may fail, and one may be older than the flow.
constexpr auto unlisted = std::chrono::seconds(5);

MonotonicTime at(std::uint64_t kernel_ns)
{
    return MonotonicTime(static_cast<std::int64_t>(kernel_ns));
}

} // namespace

void Conversations::note(KernelConversations listed, std::uint32_t guarded_netns, MonotonicTime now, const Adopt& adopt)
{
    for (const auto& [kernel_key, conversation] : listed) {
        if (now - at(conversation.last_ns) > idle)
            continue;
        const auto tuple = tuple_of(kernel_key, guarded_netns);
        const auto key = FlowKey::udp(conversation.direction, conversation.cookie, tuple);
        auto* flow = flows_.find(key);
        if (flow == nullptr && at(conversation.opened_ns) < started_) {
            adopt(key, tuple, conversation);
            flow = flows_.find(key);
        }
        if (flow == nullptr)
            continue;
        flow->listed = now;
        flow->last = std::max(flow->last, at(conversation.last_ns));
        if (flow->tuple.local_port == 0)
            flow->tuple.local_port = kernel_key.local_port;
    }
}

std::optional<MonotonicTime> Conversations::end_of(const Flow& flow, MonotonicTime now) const
{
    const bool connected = !flow.listed && flow.direction == policy::Direction::outbound;
    if (connected)
        return std::nullopt;
    const bool dropped = flow.listed && now - *flow.listed > unlisted;
    if (dropped || now - flow.last > idle)
        return flow.last;
    return std::nullopt;
}

} // namespace bulkhead::agent
