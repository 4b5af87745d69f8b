// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/enrich.h"
#include "common/abi/bulkhead.h"
#include "common/core/clock.h"
#include "common/policy/plane_image.h"
#include "record.pb.h"

#include <functional>
#include <memory>

namespace bulkhead::agent {

// Everything that gives a kernel event its words: one generation of what is enforced. Shared and immutable.
struct PolicyView {
    std::uint32_t generation = 0;
    std::uint64_t policy_version = 0;
    policy::HostPolicy policy;
    policy::PlaneImage active, shadow;
    policy::AddressBook addresses;
    std::unordered_map<policy::IdentityId, policy::Identity> identities;
};

struct HostIdentity {
    std::string host, agent_id, boot_id;
    policy::Labels labels;
    std::vector<std::string> segments;
    policy::IdentityId identity = 0;
};

// Joins kernel events into records: CONNECT and ESTABLISHED by cookie, opens with closes, UDP conversations with their end;
// names rule, segments, labels and process. Emits records without seq, in order; the spool numbers them.
// The flow table is bounded; what it cannot hold is counted and reported as a gap. Not thread-safe.
class FlowAssembler {
public:
    using Emit = std::function<void(v1::Record&&)>;
    virtual ~FlowAssembler() = default;

    // From now on events of this generation have these words. The last four generations are kept.
    virtual void set_policy(std::shared_ptr<const PolicyView> view) = 0;
    virtual void set_host(HostIdentity host) = 0;
    virtual void on_event(const bh_event& event) = 0;
    // Updates for long flows (every 5 minutes), ends of idle UDP conversations, expiry of half-joined events; and loss: pass
    // the kernel's counters, and each new loss becomes a gap record. Call about once a second.
    virtual void tick(const std::map<std::string, std::uint64_t>& kernel_counters,
                      const std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>& udp_flows) = 0;
    // How a live connection was opened, for the session walk.
    [[nodiscard]] virtual std::optional<policy::Direction> direction_of(std::uint64_t cookie) const = 0;
    // A session was cut by a policy change: its close says so (rule, verdict denied).
    virtual void on_cut(const bh_walked_socket& socket, policy::Direction direction, const bh_judge_request& verdict,
                        const bh_subject& owner) = 0;
    [[nodiscard]] virtual std::size_t open_flows() const = 0;
};

[[nodiscard]] std::unique_ptr<FlowAssembler> make_flow_assembler(const Clock& clock, ProcessTable& processes,
                                                                 FlowAssembler::Emit emit);

} // namespace bulkhead::agent
