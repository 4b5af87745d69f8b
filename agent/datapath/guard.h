// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/early_drop.h"
#include "agent/datapath/interfaces.h"
#include "agent/datapath/own_addresses.h"
#include "agent/datapath/programs.h"
#include "agent/datapath/tc_hook.h"

#include <array>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace bulkhead::agent {

// The packet guard on the interfaces of one network namespace, and what it must know of their addresses. Interfaces
// that come, go and change their names are followed. What is attached stays when this goes. Not thread-safe.
class Guard {
public:
    // Borrows the skeleton and the namespace's descriptor for its life. Attaches nothing by itself.
    struct Spare {
        std::shared_ptr<SparePrograms> bare, early_drop;
    };
    static Result<Guard> open(const PinFolder& pins, ::datapath& skeleton, Spare spare, const GuardOptions& options,
                              int netns);

    // Brings everything up to date: attaches where it is missing (also what another took away), forgets interfaces that
    // are gone, writes addresses. The error is that of the first interface that failed; all are tried.
    Status follow();
    // Of this, the addresses alone, which doors want to know as well.
    Status follow_addresses();
    // Has XDP drop on the guarded interfaces while the host is in quarantine, and no longer.
    void follow_quarantine();
    [[nodiscard]] int fd() const { return watch_.fd(); }
    [[nodiscard]] bool changed() { return watch_.changed(); }
    [[nodiscard]] TcKind kind() const { return kind_; }
    // There has been one that stands on another interface of the namespace and is made to be given to another namespace
    // (macvlan, ipvlan).
    [[nodiscard]] bool any_made_to_be_moved() const { return made_to_be_moved_; }
    // Another version's acts on some interface, as far as is known.
    [[nodiscard]] bool any_of_another() const { return any_of_another_; }
    // What was taken away and has been put back since the last call.
    [[nodiscard]] std::vector<std::string> take_mended() { return std::exchange(mended_, {}); }
    // Names of the interfaces that are guarded now, in order.
    [[nodiscard]] std::vector<std::string> interfaces() const;
    [[nodiscard]] std::vector<std::string> early_drop_interfaces() const { return early_drop_.interfaces(); }

private:
    Guard(PinFolder pins, ::datapath& skeleton, Spare spare, GuardOptions options, int netns, InterfaceWatch watch)
        : pins_(std::move(pins)), skeleton_(&skeleton), bare_programs_(std::move(spare.bare)),
          options_(std::move(options)), netns_(netns), watch_(std::move(watch)), own_addresses_(skeleton),
          early_drop_(skeleton, std::move(spare.early_drop), options_.attach && options_.early_drop)
    {}
    struct Side {
        PacketSide side;
        int program;
        std::uint32_t id;
    };
    using Sides = std::array<Side, 2>;
    using PinNames = std::set<std::string>;
    [[nodiscard]] bool wanted(const Interface& interface) const;
    [[nodiscard]] Result<Sides> sides(const Interface& interface);
    [[nodiscard]] Result<std::vector<Interface>> write_addresses();
    Status
    follow_interfaces(std::vector<Interface> present); // in the guarded namespace: indexes mean nothing elsewhere
    Status attach(const Interface& interface, const PinNames& pins, bool closely);
    [[nodiscard]] bool acts(const Interface& interface, const Side& side, const PinNames& pins);
    [[nodiscard]] bool runs_anothers(const Interface& interface);
    void hold(const Interface& interface, PacketSide side);
    bool mend_pin(const Interface& interface, PacketSide side);
    void remove_stale_pins(const std::vector<Interface>& present);

    PinFolder pins_;
    ::datapath* skeleton_;
    std::shared_ptr<SparePrograms> bare_programs_;
    GuardOptions options_;
    int netns_;
    InterfaceWatch watch_;
    TcKind kind_ = TcKind::tcx;
    OwnAddresses own_addresses_;
    EarlyDrop early_drop_;
    std::set<int> unreadable_; // devices that were told of
    std::vector<Interface> guarded_;
    std::map<LinkHeader, Sides> sides_; // of which they are known
    std::size_t looked_closely_ = 0;    // at how many interfaces, in all
    bool followed_ = false;             // once
    bool any_of_another_ = true;
    bool made_to_be_moved_ = false;
    std::map<std::pair<int, PacketSide>, UniqueFd> links_; // tcx, held so that a pin that goes costs only the pin
    std::vector<std::string> mended_;
    // As they were last written.
    std::vector<Interface> interfaces_;
    std::vector<InterfaceAddress> addresses_;
};

// Removes the clsact filters of the instance from the calling thread's namespace, and the discipline where nobody
// else's are in it; tcx links go with their pins.
void remove_guard_filters(const PinFolder& pins);

} // namespace bulkhead::agent
