// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_table.h"

#include <functional>
#include <span>
#include <unordered_map>
#include <utility>

namespace bulkhead::agent {

using KernelConversations = std::span<const std::pair<bh_udp_flow_key, bh_udp_flow>>;

// The ends of UDP flows. A connected socket tells its end. A conversation of an unconnected one has none: it is over
// when the kernel's table has dropped it, or has seen no datagram for a minute.
class Conversations {
public:
    Conversations(FlowTable& flows, MonotonicTime started) : flows_(flows), started_(started) {}

    // Notes what the kernel's table holds. `adopt` makes a flow of a conversation that began before the agent.
    using Adopt = std::function<void(const FlowKey&, const FlowTuple&, const bh_udp_flow&)>;
    void note(KernelConversations listed, std::uint32_t guarded_netns, MonotonicTime now, const Adopt& adopt);
    // When it was over; nullopt: it goes on.
    [[nodiscard]] std::optional<MonotonicTime> end_of(const Flow& flow, MonotonicTime now) const;

private:
    using Unknown = std::unordered_map<FlowTuple, const bh_udp_flow*, FlowHash>;
    static void seen(Flow& flow, const bh_udp_flow& conversation, std::uint16_t local_port, MonotonicTime now);
    void find_taken_over(Unknown& unknown, MonotonicTime now);

    FlowTable& flows_;
    MonotonicTime started_;
};

} // namespace bulkhead::agent
