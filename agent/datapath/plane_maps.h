// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "common/core/unique_fd.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace bulkhead::agent {

inline constexpr std::uint32_t facet_rows = 65536; // BH_FACET_ROWS in bpf/maps.h

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

    using Filling = std::vector<std::pair<std::uint32_t, const PlaneMaps*>>;
    // The slots must be in no role. On failure some outers may be filled: vacate the slots.
    [[nodiscard]] Status fill(const Filling& slots) const;
    // Frees the slots' inner maps. Call only after wait_for_readers() since the slots left their roles.
    void vacate(const std::vector<std::uint32_t>& slots) const;
    // Returns when every decision that was under way at the call has ended. Puts `peers` into `slot` once more, where
    // it is already; without one, an empty map into a slot that is free (vacate it).
    [[nodiscard]] Status wait_for_readers(const UniqueFd* peers, std::uint32_t slot) const;
    // What was written of a slot when it was last filled; zeroes before that.
    [[nodiscard]] bh_plane_info info_of(std::uint32_t slot) const;
    // The facet table of a slot that another process filled (a taken-over plane). Needs CAP_SYS_ADMIN.
    [[nodiscard]] Result<UniqueFd> facets_of(std::uint32_t slot) const;

    // What is in a slot, with descriptors of the inner maps. Needs CAP_SYS_ADMIN.
    struct Content {
        std::uint32_t slot = BH_SLOT_NONE;
        bh_plane_info info{};
        std::array<__u32, 5> ids{};
        std::array<UniqueFd, 5> maps{};
    };
    [[nodiscard]] Result<Content> content_of(std::uint32_t slot) const;
    [[nodiscard]] bool holds(const Content& content) const;
    [[nodiscard]] Status put_back(const Content& content) const;

private:
    [[nodiscard]] std::array<__u32, 5> ids_in(std::uint32_t slot) const;
    [[nodiscard]] std::array<int, 5> outers() const { return {peers_, prefixes_, ports_, entries_, facets_}; }
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
