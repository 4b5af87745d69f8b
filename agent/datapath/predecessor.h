// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/denial_tables.h"
#include "agent/datapath/pins.h"
#include "agent/datapath/rings.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>

namespace bulkhead::agent {

// What an agent with another layout of maps left pinned. Its programs go on deciding by its maps until ours are put
// into the same links, which is done when our maps hold what is to be enforced.
class Predecessor {
public:
    static Predecessor find(const PinFolder& pins, std::string difference);
    // Whose place was taken by an agent that ended before it had told everything, or had exchanged the last gate.
    static std::optional<Predecessor> find_replaced(const PinFolder& pins);

    // In what its layout is another one, in words.
    [[nodiscard]] const std::string& difference() const { return difference_; }
    // Some plane of its is in force. What cannot be read counts as a plane.
    [[nodiscard]] bool enforces() const;
    [[nodiscard]] bool in_quarantine() const { return control_ && (control_->flags & BH_CONTROL_QUARANTINE) != 0; }

    // Its structures are those of this program, only a size differs: what its tables say can be used.
    [[nodiscard]] bool speaks_our_abi() const { return control_ && control_->abi_version == BH_ABI_VERSION; }
    // The generation that it enforces for good, whatever is on trial. nullopt: that cannot be read.
    [[nodiscard]] std::optional<std::uint32_t> generation() const;
    // Our table has room for what its has.
    [[nodiscard]] bool listeners_fit(const ::datapath& skeleton) const;
    // Copies who listens, and where: also in namespaces that cannot be walked. What our table has from before
    // `kept_since` (CLOCK_MONOTONIC), when our programs began to keep it, goes. Whether that is all.
    [[nodiscard]] bool hand_over_listeners(::datapath& skeleton, std::chrono::nanoseconds kept_since) const;
    // Copies the addresses of other namespaces: also of those that cannot be reached now.
    void hand_over_addresses(::datapath& skeleton) const;
    // Copies the conversations that replies are known by, those that are not known yet.
    void hand_over_conversations(::datapath& skeleton);
    // Of these, what the guard alone asks about; also what was copied before and has been used since.
    void hand_over_exchanges(::datapath& skeleton);
    // What it had not told yet. nullptr: that cannot be read.
    [[nodiscard]] std::unique_ptr<Rings> rings();
    [[nodiscard]] std::optional<DenialTables> denials();
    // Its pins may be in the folder of those that were replaced now.
    void look_for_pins(const PinFolder& pins);

private:
    Predecessor(std::string folder, std::string difference);
    [[nodiscard]] int keep(const std::string& map);

    std::string folder_; // of its maps
    std::string difference_;
    std::optional<bh_control> control_;
    __u32 places_taken_ = 0;     // by conversations that were handed over
    std::vector<UniqueFd> kept_; // the maps that rings() and denials() read
};

// Our maps take the place of the predecessor's pins in steps, and whatever moment that is cut off at, every map that a
// gate may look into stays pinned: a table of programs that nobody holds is emptied by the kernel.
// First, before a hook is switched: ours are pinned beside the others. What can fail for want of something is this. On
// failure nothing is left of it.
[[nodiscard]] Status pin_beside(const PinFolder& pins, bpf_object* object);
void unpin_beside(const PinFolder& pins);
// When the hooks are switched, and before a gate is: from here on ours are what the next start goes on with.
[[nodiscard]] Status make_beside_whole(const PinFolder& pins);
// When the gates are switched; and at every start, before pins are looked at: what was pinned beside, if it is whole,
// is what is adopted.
[[nodiscard]] Status finish_replacing_pins(const PinFolder& pins);
// At last: nobody looks into the others any more, and what they had to tell is told.
void remove_replaced_pins(const PinFolder& pins);

} // namespace bulkhead::agent
