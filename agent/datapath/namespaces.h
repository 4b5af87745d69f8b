// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/namespace_finder.h"
#include "agent/datapath/own_addresses.h"
#include "agent/datapath/pins.h"
#include "agent/datapath/programs.h"

#include <cstddef>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace bulkhead::agent {

// The inbound door in the network namespaces of workloads, beside the agent's own. In each stands a gate, a program
// that does nothing but say where it is and call bh_sk_lookup_elsewhere, so a namespace costs no second load of that.
// It is loaded for the first of them, or by inspect(), so that a start does not wait for it and a container does not
// either. The pin is sk_lookup_<inode>. What is attached stays when this goes. Not thread-safe.
class Namespaces {
public:
    // Borrows the skeleton for its life.
    Namespaces(PinFolder pins, ::datapath& skeleton, std::shared_ptr<SparePrograms> elsewhere, std::uint32_t own_inode,
               std::string cgroup);

    // First: finds the gates that an agent before has pinned, which go on as they are; forgets those of dead
    // namespaces. Fails if what the gates are to call cannot be loaded.
    [[nodiscard]] Status open_pinned();
    // Before follow(): gives the gates this version's program. What the gates called before must stay until this is
    // done. The error is that of the first gate that could not be changed; all are tried.
    [[nodiscard]] Status take_over();
    // Finds out which namespaces hold workloads now; attaches where it is missing, forgets what is gone, and tells the
    // programs the addresses of each.
    [[nodiscard]] NamespaceChange follow(std::span<const NamespaceHint> hints);
    // Puts back what was detached or replaced, and says what was found since the last call.
    void inspect(std::vector<Tampering>& found);
    [[nodiscard]] std::vector<PinnedObject> pinned() const;

    // For each that is followed and can be reached; the descriptor is good for the call.
    void visit(const std::function<void(std::uint32_t inode, int netns)>& use) const;
    [[nodiscard]] UniqueFd open(std::uint32_t inode) const;
    [[nodiscard]] bool follows(std::uint32_t inode) const { return followed_.contains(inode); }
    [[nodiscard]] std::size_t size() const { return followed_.size(); }
    [[nodiscard]] std::vector<std::uint32_t> inodes() const;

private:
    struct Followed {
        UniqueFd link;
        NamespaceHolder holder;
        __u32 program = 0; // id of the gate
    };
    [[nodiscard]] std::string pin_of(std::uint32_t inode) const;
    [[nodiscard]] Result<UniqueFd> make_gate(std::uint32_t inode) const;
    [[nodiscard]] Status give_program();
    [[nodiscard]] Status change_gate(std::uint32_t inode, Followed& followed);
    [[nodiscard]] Status attach(std::uint32_t inode, const NamespaceHolder& holder);
    [[nodiscard]] Status enter_as_followed(std::uint32_t inode, std::uint64_t cookie) const;
    [[nodiscard]] Status follow_addresses();
    void forget_dead(const std::map<std::uint32_t, NamespaceHolder>& present);
    void forget_rows(std::uint32_t inode, bool reborn) const;
    void forget_told(const std::map<std::uint32_t, NamespaceHolder>& present) const;
    [[nodiscard]] bool is_row_of(std::uint32_t inode, int netns) const;
    void mend();
    void mend_program();
    void mend_gate(std::uint32_t inode, Followed& followed);
    void told(std::string what, const Status& done);

    PinFolder pins_;
    ::datapath* skeleton_;
    std::shared_ptr<SparePrograms> elsewhere_;
    __u32 program_ = 0; // id of what the gates were given to call; 0: nothing yet
    std::uint32_t own_inode_;
    std::string cgroup_;
    OwnAddresses own_addresses_;
    OwnAddresses::Elsewhere addresses_;
    std::map<std::uint32_t, Followed> followed_;
    std::vector<Tampering> mended_;      // not told yet
    std::set<std::uint32_t> stood_open_; // whose gate was put back, not told to whoever follows yet
};

} // namespace bulkhead::agent
