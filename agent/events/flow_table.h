// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_key.h"
#include "agent/events/policy_words.h"
#include "agent/events/process_names.h"

#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace bulkhead::agent {

struct IcmpKind {
    std::uint8_t type = 0, code = 0;
};

struct Flow {
    FlowTuple tuple; // forwarded: from `local` to `remote`, though neither is this host
    bool forwarded = false;
    std::optional<IcmpKind> icmp;
    policy::Direction direction = policy::Direction::outbound;
    FlowId id{};
    bool answers = false;                // UDP: of a socket that was connected to whom it answers, and lasts as long
    std::optional<MonotonicTime> opened; // unset: it is older than the agent
    MonotonicTime next_update{};
    SharedProcess process;                            // may be nullptr
    SharedAttribution words;                          // may be nullptr
    std::optional<std::uint64_t> bytes_out, bytes_in; // as the last walk showed them
    bool walked = false;                              // a walk has shown the socket
    std::optional<MonotonicTime> missing;             // a walk at this time did not show the socket any more
    std::optional<MonotonicTime> cut;                 // destroyed by a policy change, whose words `words` are
    std::optional<MonotonicTime> listed;              // UDP: when the kernel's table of conversations last had it
    MonotonicTime last{};                             // UDP: the last datagram that is known
};

// Open flows by key, TCP also by both ends, all by cookie. Bounded: insert()
// refuses when full.
class FlowTable {
public:
    explicit FlowTable(std::size_t limit) : limit_(limit) {}

    // nullptr when there is no room. Replaces a flow of the same key.
    Flow* insert(const FlowKey& key, Flow flow);
    void erase(const FlowKey& key);
    // The flow goes on under another key, of the same protocol. nullptr: there is none.
    Flow* rename(const FlowKey& from, const FlowKey& to);
    [[nodiscard]] Flow* find(const FlowKey& key);
    [[nodiscard]] const Flow* find(const FlowKey& key) const;
    [[nodiscard]] const Flow* tcp_between(const FlowTuple& tuple) const;
    [[nodiscard]] std::vector<FlowKey> udp_of(std::uint64_t cookie) const;
    [[nodiscard]] std::size_t size() const { return flows_.size(); }

    // visit(key, flow) returns true to have the flow erased.
    template <typename Visit>
    void erase_when(Visit visit)
    {
        for (auto entry = flows_.begin(); entry != flows_.end();) {
            auto& [key, flow] = *entry;
            if (visit(key, flow)) {
                unindex(key, flow);
                entry = flows_.erase(entry);
            } else {
                ++entry;
            }
        }
    }

private:
    void unindex(const FlowKey& key, const Flow& flow);

    std::size_t limit_;
    std::unordered_map<FlowKey, Flow, FlowHash> flows_;
    std::unordered_map<FlowTuple, FlowKey, FlowHash> tcp_by_tuple_;
    std::unordered_map<std::uint64_t, std::unordered_set<FlowKey, FlowHash>> udp_by_cookie_; // one socket may have all
};

} // namespace bulkhead::agent
