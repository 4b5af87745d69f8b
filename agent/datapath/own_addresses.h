// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/interfaces.h"

#include <map>
#include <set>
#include <span>

namespace bulkhead::agent {

// What the kernel programs know of the addresses of the guarded network namespace and of those that are followed
// (bh_own_addresses, bh_own_elsewhere). Not thread-safe.
class OwnAddresses {
public:
    // Borrows the skeleton for its life.
    explicit OwnAddresses(::datapath& skeleton);

    // Replaces what is known of the guarded namespace. An address counts as loopback while its interface is up;
    // not fe80::/10, which another host may have on another link.
    Status set_guarded(const std::vector<InterfaceAddress>& addresses, const std::vector<Interface>& interfaces);
    // Replaces what is known of the others, by inode number: of each, what counts as loopback there.
    using Elsewhere = std::map<std::uint32_t, std::set<IpAddress>>;
    // Fails when not all could be: those of the namespaces with the fewest then are.
    Status set_elsewhere(const Elsewhere& addresses);
    // As the table says it, whoever has written that.
    [[nodiscard]] Elsewhere elsewhere() const;

private:
    using Marks = std::map<IpAddress, std::uint8_t>; // bits of enum bh_own_address
    [[nodiscard]] static std::vector<std::uint32_t> that_fit(const Elsewhere& addresses);
    [[nodiscard]] Status mark(const Marks& wanted, std::uint8_t mask) const;

    void may_be_there(const bh_address& key) const;
    void note_absent() const;

    int marks_, elsewhere_map_;
    std::span<__u64, BH_OWN_FILTER_BITS / 64> absent_; // not_own_addresses; the kernel's programs read it
    Elsewhere elsewhere_;
    bool elsewhere_known_ = false; // what an agent before has written is put right once
};

// What counts as loopback in a network namespace with these.
[[nodiscard]] std::set<IpAddress> counting_as_loopback(const std::vector<InterfaceAddress>& addresses,
                                                       const std::vector<Interface>& interfaces);

} // namespace bulkhead::agent
