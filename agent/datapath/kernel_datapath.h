// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/attachments.h"
#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/cgroup_watch.h"
#include "agent/datapath/cgroups.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/denial_tables.h"
#include "agent/datapath/guard.h"
#include "agent/datapath/namespaces.h"
#include "agent/datapath/plane_maps.h"
#include "agent/datapath/predecessor.h"
#include "agent/datapath/rings.h"
#include "agent/datapath/sock_diag.h"
#include "agent/datapath/socket_destroyer.h"
#include "agent/datapath/socket_ingress.h"
#include "agent/datapath/socket_walk.h"

#include <future>
#include <map>
#include <memory>
#include <set>

namespace bulkhead::agent {

// The datapath on libbpf. Everything it holds is of this process; what enforces is pinned.
class KernelDatapath final : public Datapath {
public:
    struct Parts {
        Skeleton skeleton;
        ControlWord control;
        std::unique_ptr<Rings> rings;
        SocketWalk walk;
        SockDiag sock_diag;
        SocketDestroyer destroyer;
        CgroupWatch newcomers;
        CgroupTree cgroups;
        std::uint64_t enforced_cgroup = 0;
        UniqueFd netns;
        Guard guard;           // borrows the two of them above
        Namespaces namespaces; // likewise
        SocketIngress ingress;
        PinFolder pins;
        UniqueFd cgroup;
        AttachPoint where;                      // of the descriptors above
        std::optional<Attachments> attachments; // none yet: the predecessor's programs decide
        std::vector<std::uint32_t> unjudged;    // namespaces that came while no agent ran
    };
    // With a predecessor nothing is attached until the first realise(). `replaced`: of one whose place an agent before
    // this one took.
    KernelDatapath(Parts parts, std::optional<Predecessor> predecessor, std::optional<Predecessor> replaced);

    // Puts our programs into the predecessor's place, whatever our maps hold.
    Status take_over();
    // Of hooks that only another version has.
    void remove_links_of_another();
    // Guards the interfaces while others go on. `anew`: nothing was pinned before this instance.
    void begin_guarding(bool anew);
    [[nodiscard]] bool predecessor_enforces() const { return predecessor_ && predecessor_->enforces(); }

    Status finish_opening() override;
    Result<std::uint32_t> realise(const Realisation& realisation) override;
    [[nodiscard]] std::uint32_t next_generation() const override;
    [[nodiscard]] TrialState trial() const override;
    Status confirm() override;
    Status fall_back() override;
    Status update_facets(std::uint32_t generation, const FacetTable& facets) override;
    Status clear() override;
    [[nodiscard]] bh_control control() const override;
    Status judge(std::span<bh_judge_request> requests) override;
    Result<std::vector<WalkedSocket>> walk_sockets() override;
    Result<std::vector<WalkedSocket>> walk_sockets_in(const std::set<std::uint32_t>& namespaces) override;
    void judged_newcomers(const std::set<std::uint32_t>& namespaces) override;
    bool in_scope(std::uint64_t cgroup_id) override;
    Result<bool> destroy_socket(const bh_walked_socket& socket) override;
    Result<std::uint64_t> find_socket(const bh_walked_socket& socket) override;
    [[nodiscard]] bool destroys_in_walk() override;
    std::unordered_set<std::uint64_t> destroy_in_walk(std::span<const bh_walked_socket* const> sockets) override;
    Status adopt_listeners(std::span<const WalkedSocket> sockets) override;
    Result<std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>> udp_flows() override;
    Result<KernelExchanges> exchanges() override;
    Status forget_udp_flow(const bh_udp_flow_key& key) override;
    Result<std::size_t> consume(const EventSink& sink, const Settle& settle,
                                std::chrono::milliseconds timeout) override;
    Status take_denials(const DenialSink& sink) override;
    [[nodiscard]] std::optional<std::string> pending_takeover() const override;
    [[nodiscard]] std::optional<std::uint32_t> pending_generation() const override;
    [[nodiscard]] bool in_quarantine() const override;
    std::vector<Tampering> look_for_tampering() override;
    Counters counters() override;
    std::vector<MapUse> map_use() override;
    [[nodiscard]] int interface_events() override { return guard().fd(); }
    Status follow_interfaces() override;
    NamespaceChange follow_namespaces() override;
    NamespaceChange follow_hints(std::span<const NamespaceHint> hints) override;
    [[nodiscard]] int cgroup_events() override { return parts_.newcomers.fd(); }
    bool take_new_cgroups() override { return parts_.newcomers.take(); }
    [[nodiscard]] std::vector<std::string> guarded_interfaces() const override { return guard().interfaces(); }
    [[nodiscard]] std::string guard_kind() const override { return guard().kind() == TcKind::tcx ? "tcx" : "clsact"; }
    [[nodiscard]] std::vector<std::string> early_drop_interfaces() const override
    {
        return guard().early_drop_interfaces();
    }
    [[nodiscard]] bool judges_at_sockets() const override { return SocketIngress::acts(parts_.pins); }
    [[nodiscard]] std::vector<std::uint32_t> followed_namespaces() const override { return parts_.namespaces.inodes(); }
    [[nodiscard]] KernelListeners listeners() override;
    [[nodiscard]] std::vector<bh_denial> denials_in_table() override { return denials_.look(); }

private:
    // One role of the control word: the slot, and the maps in it when this process filled it.
    struct Role {
        std::uint32_t slot = BH_SLOT_NONE;
        std::optional<PlaneMaps> plane;
    };
    struct Pair {
        Role active, shadow;
        std::uint32_t generation = 0;
        std::optional<FacetTable> facets{}; // as this process wrote them last
        [[nodiscard]] std::vector<std::uint32_t> slots() const;
    };
    Result<Pair> build_pair(const Realisation& realisation, std::uint32_t generation);
    Status judge_batch(std::span<bh_judge_request> requests);
    [[nodiscard]] bh_plane_info trial_info(const Realisation& realisation, bh_plane_info info) const;
    void switch_to(const bh_control& control, Pair next, std::optional<Pair> fallback);
    void note_beginning(const bh_control& next);
    void settle_lapsed();
    [[nodiscard]] Pair* pair_of(std::uint32_t generation);
    Status replace_facets_of(const Pair& pair, const FacetTable& facets);
    [[nodiscard]] bh_control fallback_of(const bh_control& trial) const;
    [[nodiscard]] std::vector<std::uint32_t> slots_named_by(const bh_control& control) const;
    [[nodiscard]] std::vector<std::uint32_t> free_slots() const;
    [[nodiscard]] std::uint32_t spare_slot(const std::vector<std::uint32_t>& used_before) const;

    [[nodiscard]] Guard& guard();
    [[nodiscard]] const Guard& guard() const { return const_cast<KernelDatapath*>(this)->guard(); }
    [[nodiscard]] SockDiag* sock_diag_of(std::uint32_t netns);
    std::string destroyer_error_; // that was told of
    Result<std::vector<WalkedSocket>> walk_where(const std::function<bool(std::uint32_t netns)>& wanted);
    [[nodiscard]] Status replace_doors();
    [[nodiscard]] Status find_listeners();
    void hand_over_to_guard();
    [[nodiscard]] Status follow_ingress();
    void replace_gates_and_pins();
    [[nodiscard]] bool others_count() const; // programs of another version, in its tables
    void forget_replaced();
    void seal();
    void inspect_gates_and_pins(std::vector<Tampering>& found);
    void inspect_planes(std::vector<Tampering>& found);
    void inspect_facets(std::vector<Tampering>& found);

    Parts parts_;
    PlaneSlots slots_;
    DenialTables denials_;
    Pair in_force_;                          // the roles of the control word
    std::optional<Pair> fallback_;           // of the trial that the control word speaks of
    std::chrono::nanoseconds walk_began_{0}; // CLOCK_MONOTONIC
    std::set<std::uint32_t> walked_;         // namespaces, by the last walk
    // Of other namespaces, which cannot end while it is kept: for one round of destroying.
    std::map<std::uint32_t, SockDiag> sock_diags_;

    std::optional<Predecessor> predecessor_; // whose programs decide
    std::optional<Predecessor> replaced_;    // whose programs did, and who has not told everything yet
    bool gates_wait_ = false;                // for pins of ours; the other version's decide in them
    bool guard_knows_ = false;               // what the other version's has let pass, until ours stood
    std::unique_ptr<Rings> old_rings_;       // used by consume() alone
    std::optional<DenialTables> old_denials_;
    int old_failures_ = 0; // to take them

    // What the kernel must hold, unless somebody else wrote to it.
    bh_control sealed_word_{};
    std::vector<PlaneSlots::Content> sealed_slots_;

    bool began_anew_ = false;
    Status opened_;
    std::future<Status> guarding_; // the last member: it uses the others
};

} // namespace bulkhead::agent
