// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/holder_search.h"
#include "agent/datapath/mounted_namespaces.h"
#include "agent/datapath/namespace_finder.h"
#include "agent/datapath/namespace_sweep.h"
#include "agent/datapath/own_addresses.h"
#include "agent/datapath/pins.h"
#include "agent/datapath/programs.h"

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
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
    // Borrows the skeleton and the guarded namespace for its life.
    Namespaces(PinFolder pins, ::datapath& skeleton, std::shared_ptr<SparePrograms> elsewhere, int guarded_netns,
               std::uint32_t guarded_inode, std::string cgroup);

    // First: finds the gates that an agent before has pinned, which go on as they are; forgets those of dead
    // namespaces. Fails if what the gates are to call cannot be loaded.
    [[nodiscard]] Status open_pinned();
    // Before the doors act: what is own in those that open_pinned() found.
    void know_addresses();
    // Before follow(): gives the gates this version's program. What the gates called before must stay until this is
    // done. The error is that of the first gate that could not be changed; all are tried.
    [[nodiscard]] Status take_over();
    // Finds out which namespaces hold workloads now; attaches where it is missing, forgets what is gone, and tells the
    // programs the addresses of each. None of its parts takes longer than `patience`: it goes on at the next call.
    [[nodiscard]] NamespaceChange follow(std::chrono::milliseconds patience = std::chrono::milliseconds(100));
    // Only those that were told of, and those that are looked for since they were.
    [[nodiscard]] NamespaceChange follow(std::span<const NamespaceHint> hints);
    // Puts back what was detached or replaced, and says what was found since the last call.
    void inspect(std::vector<Tampering>& found);
    [[nodiscard]] std::vector<PinnedObject> pinned() const;

    // For each wanted one that is followed and can be reached; the descriptor is good for the call.
    void visit(const std::function<bool(std::uint32_t inode)>& wanted,
               const std::function<void(std::uint32_t inode, int netns)>& use) const;
    // Reaches those that came and were not judged() yet also when all have left them.
    [[nodiscard]] UniqueFd open(std::uint32_t inode) const;
    // What these accepted before their gate was looked at. They can be reached so until the next follow(), to end it.
    void judged(const std::set<std::uint32_t>& namespaces);
    [[nodiscard]] bool follows(std::uint32_t inode) const { return followed_.contains(inode); }
    [[nodiscard]] std::size_t size() const { return followed_.size(); }
    // Until it is told otherwise.
    void leave_gates_of_another(bool leave) { leaves_gates_ = leave; }
    // Some gate calls what it called before open_pinned().
    [[nodiscard]] bool any_gate_of_another() const;
    [[nodiscard]] std::vector<std::uint32_t> inodes() const;
    // Of one that was followed, so far: NamespaceLinks::past_guard.
    [[nodiscard]] bool any_past_guard() const { return past_guard_; }

    static constexpr std::chrono::seconds at_a_start{5}; // for follow(): nothing waits for the agent yet
    // How many one user may have followed, so that others find room; as many may be without a process.
    static constexpr std::size_t of_one_user = BH_NAMESPACES / 2;

private:
    static constexpr std::size_t max_steps = 1 << 20;
    using Present = std::map<std::uint32_t, NamespaceHolder>;
    struct Followed {
        UniqueFd link;
        NamespaceHolder holder;
        __u32 program = 0;                 // id of the gate
        std::optional<std::uint32_t> user; // who answers for it, other than the host
    };
    struct Kept {
        UniqueFd netns;
        std::chrono::nanoseconds since;
        bool judged = false;
    };
    // Not followed for want of room, since that was last said.
    struct TurnedAway {
        std::set<std::uint32_t> for_all, for_user, not_looked_for;
        std::uint32_t user = 0; // who has as many as one may
    };
    [[nodiscard]] std::string pin_of(std::uint32_t inode) const;
    [[nodiscard]] Result<UniqueFd> make_gate(std::uint32_t inode) const;
    [[nodiscard]] Status take_over(std::uint32_t inode, Followed& followed);
    [[nodiscard]] Status give_program();
    [[nodiscard]] Status change_gate(std::uint32_t inode, Followed& followed);
    [[nodiscard]] Status attach(std::uint32_t inode, const NamespaceHolder& holder, int netns);
    void let_go();
    [[nodiscard]] Status enter_as_followed(std::uint32_t inode, std::uint64_t cookie) const;
    [[nodiscard]] Present look_everywhere(std::chrono::milliseconds patience);
    [[nodiscard]] bool has_room_for(std::uint32_t inode);
    [[nodiscard]] bool give_up_an_empty_one();
    [[nodiscard]] bool is_heard_in(std::uint32_t inode) const;
    [[nodiscard]] std::size_t empty_places() const;
    [[nodiscard]] bool has_room_for_user(std::uint32_t inode, int netns);
    void take_in(std::uint32_t inode, const NamespaceHolder& holder, int netns);
    void take_in_present(const Present& present, std::chrono::milliseconds patience);
    void take_in_hinted(const NamespaceHint& hint);
    void know_cookie(std::uint32_t inode, int netns);
    void look_for_holder(std::uint32_t inode, const Followed& followed);
    void look_for_holders();
    [[nodiscard]] std::vector<std::uint32_t> take_came();
    [[nodiscard]] std::optional<Error> take_trouble();
    void note_trouble(Status done, const std::string& where);
    void recall_addresses();
    void follow_addresses(Slice slice);
    void ask_addresses(std::uint32_t inode, int netns);
    void tell_addresses();
    void forget_dead(const Present& present, bool others_too);
    [[nodiscard]] bool was_told_of(std::uint32_t inode) const;
    void forget_conversations(const std::set<std::uint32_t>& namespaces) const;
    void forget_rows(const std::set<std::uint32_t>& dead, const std::set<std::uint32_t>& reborn) const;
    void forget_told(std::chrono::nanoseconds older_than) const;
    [[nodiscard]] bool is_row_of(std::uint32_t inode, int netns) const;
    void mend();
    void mend_program();
    void mend_gate(std::uint32_t inode, Followed& followed);
    void told(std::string what, const Status& done);

    PinFolder pins_;
    ::datapath* skeleton_;
    std::shared_ptr<SparePrograms> elsewhere_;
    bool leaves_gates_ = false;
    __u32 program_ = 0; // id of what the gates were given to call; 0: nothing yet
    int guarded_netns_;
    std::uint32_t own_inode_;
    bool past_guard_ = false;
    NamespaceSweep sweep_;
    std::set<std::uint32_t> empty_; // mounted, and without a process, when it was last looked everywhere
    static constexpr std::size_t given_up_at_once = 4; // in one call of follow(): each looks through all listeners
    std::size_t given_up_now_ = 0;
    std::uint32_t tried_last_ = 0;
    std::set<std::uint32_t> given_up_;         // whose conversations are not forgotten yet
    std::optional<MountedNamespaces> mounted_; // where every namespace of the host holds workloads
    HolderSearch search_;
    OwnAddresses own_addresses_;
    OwnAddresses::Elsewhere addresses_;
    std::map<std::uint32_t, Followed> followed_;
    std::map<std::uint32_t, Kept> kept_;               // those that are new
    std::uint32_t taken_in_last_ = 0, asked_last_ = 0; // where the next slice begins
    TurnedAway turned_away_;
    std::optional<Error> trouble_;       // the first since the last one was told
    std::vector<Tampering> mended_;      // not told yet
    std::set<std::uint32_t> stood_open_; // whose gate was put back or is new, not told to whoever follows yet
};

} // namespace bulkhead::agent
