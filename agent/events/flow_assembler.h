// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/enrich/enrich.h"
#include "common/abi/bulkhead.h"
#include "common/core/clock.h"
#include "common/policy/plane_image.h"
#include "record.pb.h"

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>

namespace bulkhead::agent {

// Everything that gives a kernel event its words: one generation of what is enforced. Shared and immutable.
struct PolicyView {
    std::uint32_t generation = 0;
    std::uint64_t policy_version = 0;
    policy::HostPolicy policy;
    policy::PlaneImage active, shadow;
    policy::AddressBook addresses;
    std::unordered_map<policy::IdentityId, policy::Identity> identities;
    std::weak_ptr<const PolicyView> fallback; // of a trial: what the kernel goes back to by itself
};

struct HostIdentity {
    std::string host, agent_id, boot_id;
    policy::Labels labels;
    std::vector<std::string> segments;
    policy::IdentityId identity = 0;
    // Which of the host's addresses is used towards a peer, for attempts that were refused before one was chosen.
    std::function<std::optional<IpAddress>(const IpAddress& peer)> source_towards{};
    std::uint32_t netns = 0; // inode number of the network namespace that the guard is in; 0: not known
};

// Joins kernel events into records: CONNECT and ESTABLISHED by cookie, opens with closes, UDP conversations with their
// end; names rule, segments, labels and process. Emits records without seq, in order; the spool numbers them. What a
// record says and when: docs/life-of-a-connection.md. Not thread-safe.
//
// The flow table is bounded. A flow that finds no room still has its open record, but nothing that comes later is
// joined to it; each is counted and reported as a gap of the agent.
class FlowAssembler {
public:
    using Emit = std::function<void(v1::Record&&)>;
    virtual ~FlowAssembler() = default;

    // From now on events of this generation have these words, and those of its fallback theirs. The last four
    // generations are kept.
    virtual void set_policy(std::shared_ptr<const PolicyView> view) = 0;
    virtual void set_host(HostIdentity host) = 0;
    virtual void on_event(const bh_event& event) = 0;
    // Updates for long flows (every 5 minutes), ends of idle UDP conversations, expiry of half-joined events; and loss:
    // pass the kernel's counters, and each new loss becomes a gap record. Call about once a second.
    virtual void tick(const std::map<std::string, std::uint64_t>& kernel_counters,
                      const std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>& udp_flows) = 0;
    // Attempts that were refused and are told by their number: see Datapath::take_denials.
    virtual void on_denials(std::span<const bh_denial> denials) = 0;
    // What the kernel remembers of exchanges that passed the guard; ends those that are over. About once a second while
    // wants_exchanges().
    virtual void on_exchanges(const KernelExchanges& exchanges) = 0;
    [[nodiscard]] virtual bool wants_exchanges() const = 0;
    // What a walk over all sockets showed: who listens, byte counts for the next updates, and flows whose sockets have
    // gone although no close was heard. Call at start, after every switch and when wants_walk().
    virtual void on_walk(std::span<const WalkedSocket> sockets) = 0;
    // An update is due, and a walk before the next tick() would give it byte counts.
    [[nodiscard]] virtual bool wants_walk() const = 0;
    // The kernel's loss counters as they were when their losses were last reported, kept by the caller over restarts:
    // the counters live as long as the pinned maps. Without it, all that they hold is reported by the first tick().
    virtual void set_loss_baseline(const std::map<std::string, std::uint64_t>& kernel_counters) = 0;
    // How a live connection was opened, for the session walk.
    [[nodiscard]] virtual std::optional<policy::Direction> direction_of(const bh_walked_socket& socket) const = 0;
    // A session was cut by a policy change: its close says so (rule, verdict denied).
    virtual void on_cut(const bh_walked_socket& socket, policy::Direction direction, const bh_judge_request& verdict,
                        const bh_subject& owner) = 0;
    [[nodiscard]] virtual std::size_t open_flows() const = 0;
    // For the metrics: flows_opened, flows_closed, flows_untracked, connects_unanswered, and of attempts that were
    // refused: violations (sum of the counts in their records) and stray_segments.
    [[nodiscard]] virtual std::map<std::string, std::uint64_t> counters() const = 0;
};

inline constexpr std::size_t max_flows = 200'000;

[[nodiscard]] std::unique_ptr<FlowAssembler> make_flow_assembler(const Clock& clock, ProcessTable& processes,
                                                                 FlowAssembler::Emit emit,
                                                                 std::size_t flow_limit = max_flows);

} // namespace bulkhead::agent
