// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "common/core/unique_fd.h"

#include <cstdint>
#include <memory>
#include <vector>

namespace bulkhead::agent {

// The inner maps of one plane, filled, in no slot yet.
struct PlaneMaps {
    UniqueFd peers, prefixes, ports, entries;
    std::shared_ptr<const UniqueFd> facets; // both planes of a realisation share one table
    bh_plane_info info{};
    std::size_t peer_count = 0, prefix_count = 0, entry_count = 0;
};

[[nodiscard]] Result<PlaneMaps> build_plane(const policy::PlaneImage& image, std::shared_ptr<const UniqueFd> facets);
[[nodiscard]] Result<UniqueFd> build_facets(const FacetTable& rows);

// Upserts all rows, then removes those that are not among them, so that no process loses its classes in between.
[[nodiscard]] Status replace_facets(int table, const FacetTable& rows);

// The outer maps: one inner map of each kind a slot. Borrows the skeleton's descriptors.
class PlaneSlots {
public:
    explicit PlaneSlots(const ::datapath& skeleton);

    // The slot must be in no role. On failure some outers may be filled: vacate it.
    [[nodiscard]] Status fill(std::uint32_t slot, const PlaneMaps& plane) const;
    // Frees the slot's inner maps. Call only after wait_for_readers() since the slot left its role.
    void vacate(std::uint32_t slot) const;
    // Returns when every decision that was under way at the call has ended.
    [[nodiscard]] Status wait_for_readers(std::uint32_t free_slot) const;
    // The facet table of a slot that another process filled (a taken-over plane). Needs CAP_SYS_ADMIN.
    [[nodiscard]] Result<UniqueFd> facets_of(std::uint32_t slot) const;

private:
    int info_, peers_, prefixes_, ports_, entries_, facets_;
};

// The control word, mapped: reads and writes are single 64-bit accesses.
class ControlWord {
public:
    static Result<ControlWord> map(int fd);
    ControlWord(ControlWord&& other) noexcept;
    ControlWord(const ControlWord&) = delete;
    ControlWord& operator=(const ControlWord&) = delete;
    ControlWord& operator=(ControlWord&&) = delete;
    ~ControlWord();

    [[nodiscard]] bh_control load() const;
    void store(const bh_control& control);

private:
    explicit ControlWord(std::uint64_t* word) : word_(word) {}
    std::uint64_t* word_ = nullptr; // one page, shared with the kernel
};

} // namespace bulkhead::agent
