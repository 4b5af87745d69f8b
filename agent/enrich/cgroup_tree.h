// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace bulkhead::agent {

// One folder of the cgroup v2 hierarchy. Its inode number is the cgroup id that programs in the kernel read.
struct CgroupFolder {
    std::string path; // below the mount, begins with '/'; the mount itself is "/"
    std::uint64_t id = 0;
    std::uint32_t owner = 0; // uid; other than its parent's: delegated, and whoever it is names what lies below
};

// Visits `below` ("/" or "/a/b") and all under it, parents first, in name order. `visit` names the account that the
// folder's own folders are taken from before they are visited. False when it does not reach for all. Folders that go
// meanwhile are left out, and those in one that is given to another owner meanwhile.
bool walk_cgroups(const std::string& mount, const std::string& below,
                  const std::function<std::size_t&(const CgroupFolder&)>& visit);

// The mount of the cgroup v2 hierarchy that a folder lies in; the folder itself when it lies in none.
[[nodiscard]] std::string cgroup_mount_of(const std::string& folder);

// From cgroup id to path, remembered after the cgroup has gone. Bounded.
class CgroupIndex {
public:
    CgroupIndex(std::string mount, const Clock& clock) : mount_(std::move(mount)), clock_(clock) {}

    // `hint` is where it probably is (from /proc/PID/cgroup), or empty. "" when unknown.
    [[nodiscard]] std::string path_of(std::uint64_t id, const std::string& hint);

private:
    void remember(std::uint64_t id, std::string path);
    void walk();

    std::string mount_;
    const Clock& clock_;
    std::optional<MonotonicTime> walked_;
    std::unordered_map<std::uint64_t, std::string> paths_;
};

} // namespace bulkhead::agent
