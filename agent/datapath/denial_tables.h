// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"

namespace bulkhead::agent {

// The two tables of denials, which take turns: programs count in one while the other one is read and emptied. Whose
// turn it is, and whether the counts of the turn before were taken, is in the kernel (bh_denial_turn), so a count is
// neither lost nor told twice when agents follow each other. Borrows all descriptors.
class DenialTables {
public:
    struct Maps {
        int even, odd, outer, turn, rest;
    };
    explicit DenialTables(const ::datapath& skeleton);
    explicit DenialTables(const Maps& maps) : maps_(maps) {}

    // See Datapath::take_denials.
    [[nodiscard]] Status take(const Datapath::DenialSink& sink) const;
    // What is counted at this moment and was not taken yet; it stays there.
    [[nodiscard]] std::vector<bh_denial> look() const;

private:
    [[nodiscard]] int table(std::uint32_t turn) const { return (turn & 1) == 0 ? maps_.even : maps_.odd; }
    [[nodiscard]] Status write_turn(const bh_denial_turn& turn) const;
    [[nodiscard]] Status empty(std::uint32_t turn) const;
    [[nodiscard]] Status wait_for_writers(std::uint32_t turn) const;
    [[nodiscard]] Status report(std::uint32_t turn, const Datapath::DenialSink& sink) const;
    [[nodiscard]] std::vector<bh_denial> rest_of(std::uint32_t turn) const;

    Maps maps_;
};

} // namespace bulkhead::agent
