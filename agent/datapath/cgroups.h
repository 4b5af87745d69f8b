// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h"
#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <cstdint>
#include <string>
#include <unordered_map>

namespace bulkhead::agent {

// Id of a cgroup v2 folder, as the kernel's programs see it. Fails when the folder is not on a cgroup2 file system.
[[nodiscard]] Result<std::uint64_t> cgroup_id_of(const std::string& folder);

// Answers which cgroups enclose a cgroup that is known by its id. Ids are never used twice while the kernel runs, so
// what was found once stays true. Not thread-safe.
class CgroupTree {
public:
    static Result<CgroupTree> open(const std::string& root);

    // Itself and what it lies in; only itself when there is no such cgroup (any more). Valid until the next call.
    [[nodiscard]] const bh_cgroup_path& enclosing(std::uint64_t id) { return place_of(id).path; }
    // 0: the root, or there is no such cgroup.
    [[nodiscard]] std::uint32_t level_of(std::uint64_t id) { return place_of(id).level; }

    [[nodiscard]] std::uint64_t root_id() const { return root_id_; }

private:
    CgroupTree(std::string root, UniqueFd root_fd, std::uint64_t root_id)
        : root_(std::move(root)), root_fd_(std::move(root_fd)), root_id_(root_id)
    {}
    struct Place {
        bh_cgroup_path path{};
        std::uint32_t level = 0;
    };
    [[nodiscard]] const Place& place_of(std::uint64_t id);
    [[nodiscard]] UniqueFd open_folder(std::uint64_t id) const;
    const Place& remember(const Place& place);

    std::string root_;
    UniqueFd root_fd_;
    std::uint64_t root_id_ = 0;
    std::unordered_map<std::uint64_t, Place> known_;
    Place unknown_;
};

} // namespace bulkhead::agent
