// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/denial_tables.h"
#include "agent/datapath/pins.h"
#include "agent/datapath/rings.h"

#include <memory>
#include <optional>
#include <string>

namespace bulkhead::agent {

// What an agent with another layout of maps left pinned. Its programs go on deciding by its maps until ours are put
// into the same links, which is done when our maps hold what is to be enforced.
class Predecessor {
public:
    static Predecessor find(const PinFolder& pins, std::string difference);

    // In what its layout is another one, in words.
    [[nodiscard]] const std::string& difference() const { return difference_; }
    // Some plane of its is in force. What cannot be read counts as a plane.
    [[nodiscard]] bool enforces() const;
    [[nodiscard]] bool in_quarantine() const { return control_ && (control_->flags & BH_CONTROL_QUARANTINE) != 0; }

    // Its structures are those of this program, only a size differs: what its tables say can be used.
    [[nodiscard]] bool speaks_our_abi() const { return control_ && control_->abi_version == BH_ABI_VERSION; }
    // Copies who listens, and where: also in namespaces that cannot be walked.
    void hand_over_listeners(const PinFolder& pins, ::datapath& skeleton) const;
    // Copies the conversations that replies are known by, those that are not known yet.
    void hand_over_conversations(const PinFolder& pins, ::datapath& skeleton);
    // What it had not told yet. nullptr: that cannot be read.
    [[nodiscard]] std::unique_ptr<Rings> rings(const PinFolder& pins);
    [[nodiscard]] std::optional<DenialTables> denials(const PinFolder& pins);

private:
    explicit Predecessor(std::string difference) : difference_(std::move(difference)) {}
    [[nodiscard]] int keep(const std::string& pin);

    std::string difference_;
    std::optional<bh_control> control_;
    __u32 places_taken_ = 0;     // by conversations that were handed over
    std::vector<UniqueFd> kept_; // the maps that rings() and denials() read
};

// Our maps take the place of the predecessor's pins in three steps, and whatever moment that is cut off at, every map
// that a gate may look into stays pinned: a table of programs that nobody holds is emptied by the kernel.
// First, when the hooks are switched: ours are pinned beside the others.
[[nodiscard]] Status pin_beside(const PinFolder& pins, bpf_object* object);
// Then, when the gates of network namespaces are switched, too; and at every start, before pins are looked at: what was
// pinned beside, if it is whole, is what is adopted.
[[nodiscard]] Status finish_replacing_pins(const PinFolder& pins);
// At last: nobody looks into the others any more.
void remove_replaced_pins(const PinFolder& pins);

} // namespace bulkhead::agent
