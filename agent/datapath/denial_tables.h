// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"

namespace bulkhead::agent {

// The two tables of denials, which take turns: programs count in one while the other one is read and emptied. Whose
// turn it is, and whether the counts of the turn before were taken, is in the kernel (bh_denial_turn), so a count is
// neither lost nor told twice when agents follow each other. Borrows the skeleton's descriptors.
class DenialTables {
public:
    explicit DenialTables(const ::datapath& skeleton);

    // See Datapath::take_denials.
    [[nodiscard]] Status take(const Datapath::DenialSink& sink) const;

private:
    [[nodiscard]] int table(std::uint32_t turn) const { return (turn & 1) == 0 ? even_ : odd_; }
    [[nodiscard]] Status write_turn(const bh_denial_turn& turn) const;
    [[nodiscard]] Status empty(std::uint32_t turn) const;
    [[nodiscard]] Status wait_for_writers(std::uint32_t turn) const;
    [[nodiscard]] Status report(std::uint32_t turn, const Datapath::DenialSink& sink) const;
    [[nodiscard]] std::vector<bh_denial> rest_of(std::uint32_t turn) const;

    int even_, odd_, outer_, turn_, rest_;
};

} // namespace bulkhead::agent
