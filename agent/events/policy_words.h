// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_assembler.h"
#include "common/core/clock.h"
#include "common/net/ip.h"

#include <deque>
#include <map>
#include <tuple>

namespace bulkhead::agent {

// A verdict as the kernel gave it, and all that it was judged by.
struct Judgement {
    std::uint32_t generation = 0;
    policy::Direction direction = policy::Direction::outbound;
    policy::Protocol protocol = policy::Protocol::tcp;
    IpAddress peer;                  // that was asked about: of what stays on the host, a loopback address
    std::optional<IpAddress> source; // of what is forwarded, which was asked about first, inbound
    std::uint16_t port = 0;          // of the destination
    bh_class_vector classes{};
    std::uint8_t verdict = BH_ALLOWED, reason = BH_REASON_NO_POLICY;
    std::uint8_t shadow_verdict = BH_ALLOWED, shadow_reason = BH_REASON_NO_POLICY;
};

// A verdict in the words of a record. Shared by the flows that have the same.
struct Attribution {
    std::uint8_t verdict = BH_ALLOWED, shadow_verdict = BH_ALLOWED;
    v1::Record::Reason reason = v1::Record::REASON_UNSET, shadow_reason = v1::Record::REASON_UNSET;
    std::string rule,
        shadow_rule; // empty: not known. Of what is forwarded: of the half that refuses, or the outbound one
    std::uint64_t policy_version = 0;
    bool known = false; // false: nobody saw the door being passed
};
using SharedAttribution = std::shared_ptr<const Attribution>;

// The last four generations of what is enforced: finds the rule behind a verdict and the workload behind an address.
class PolicyWords {
public:
    void add(std::shared_ptr<const PolicyView> view);

    // The rule is named only where judging again gives the same answer: a wrong name would be worse than none.
    // `now` is when it was judged: rules expire.
    [[nodiscard]] SharedAttribution attribute(const Judgement& judgement, WallTime now);
    // Workload, labels, segments, identity of an address, by the newest inventory.
    void describe_peer(const IpAddress& address, v1::Endpoint& endpoint) const;
    [[nodiscard]] std::uint64_t policy_version() const; // the newest; 0: none

private:
    using Signature = std::tuple<std::uint8_t, std::uint8_t, std::uint8_t, std::uint8_t, std::string, std::string>;
    struct Generation {
        std::shared_ptr<const PolicyView> view;
        std::map<Signature, SharedAttribution> given;
    };
    std::deque<Generation> generations_; // oldest first
};

} // namespace bulkhead::agent
