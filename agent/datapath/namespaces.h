// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/namespace_finder.h"
#include "agent/datapath/own_addresses.h"
#include "agent/datapath/pins.h"

#include <cstddef>
#include <functional>
#include <map>

namespace bulkhead::agent {

// The inbound door in the network namespaces of workloads, beside the agent's own. In each stands a gate, a program
// that does nothing but say where it is and call bh_sk_lookup_elsewhere, so a namespace costs no second load of that.
// The pin is sk_lookup_<inode>. What is attached stays when this goes. Not thread-safe.
class Namespaces {
public:
    // Borrows the skeleton for its life.
    Namespaces(PinFolder pins, ::datapath& skeleton, std::uint32_t own_inode, std::string cgroup);

    // Before follow(): gives the gates this version's program, those too that an agent before has pinned; forgets those
    // of dead namespaces.
    [[nodiscard]] Status take_over();
    // Finds out which namespaces hold workloads now; attaches where it is missing, forgets what is gone, and tells the
    // programs the addresses of each.
    [[nodiscard]] NamespaceChange follow(std::span<const NamespaceHint> hints);

    // For each that is followed and can be reached; the descriptor is good for the call.
    void visit(const std::function<void(std::uint32_t inode, int netns)>& use) const;
    [[nodiscard]] UniqueFd open(std::uint32_t inode) const;
    [[nodiscard]] bool follows(std::uint32_t inode) const { return followed_.contains(inode); }
    [[nodiscard]] std::size_t size() const { return followed_.size(); }

private:
    struct Followed {
        UniqueFd link;
        NamespaceHolder holder;
    };
    [[nodiscard]] std::string pin_of(std::uint32_t inode) const;
    [[nodiscard]] Result<UniqueFd> make_gate(std::uint32_t inode) const;
    [[nodiscard]] Status take_over(std::uint32_t inode, UniqueFd link);
    [[nodiscard]] Status attach(std::uint32_t inode, const NamespaceHolder& holder);
    [[nodiscard]] Status enter_as_followed(std::uint32_t inode, std::uint64_t cookie) const;
    [[nodiscard]] Status follow_addresses();
    void forget_dead(const std::map<std::uint32_t, NamespaceHolder>& present);
    void forget_rows(std::uint32_t inode, bool reborn) const;
    void forget_told(const std::map<std::uint32_t, NamespaceHolder>& present) const;
    void keep_pinned(std::uint32_t inode, const Followed& followed) const;

    PinFolder pins_;
    ::datapath* skeleton_;
    std::uint32_t own_inode_;
    std::string cgroup_;
    OwnAddresses own_addresses_;
    OwnAddresses::Elsewhere addresses_;
    std::map<std::uint32_t, Followed> followed_;
};

} // namespace bulkhead::agent
