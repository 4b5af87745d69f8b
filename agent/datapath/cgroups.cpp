// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/cgroups.h"

#include "agent/datapath/datapath.h"
#include "agent/datapath/mountinfo.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <vector>

namespace bulkhead::agent {

namespace {

// Bound of the memory that ids of long-gone cgroups may take; what falls out is found again.
constexpr std::size_t max_known = 16384;
constexpr std::uint32_t remembered_levels = 16; // each so many: nobody's depth costs more than once

// include/linux/exportfs.h: the handle of a kernfs node is its 64-bit id.
constexpr int handle_type_kernfs = 0xfe;

// "<root>/a/b" -> "a/b"; empty for the root itself.
std::string below(const std::string& root, const std::string& folder)
{
    const std::string relative = std::filesystem::path(folder)
                                     .lexically_normal()
                                     .lexically_relative(std::filesystem::path(root).lexically_normal())
                                     .string();
    std::string trimmed = relative == "." ? std::string() : relative;
    while (trimmed.ends_with('/'))
        trimmed.pop_back();
    return trimmed;
}

} // namespace

Result<std::string> find_cgroup2_root()
{
    std::ifstream mounts("/proc/self/mountinfo");
    for (std::string line; std::getline(mounts, line);)
        if (auto mounted = parse_mountinfo(line); mounted && mounted->type == "cgroup2")
            return std::move(mounted->point);
    auto error = fail(ErrorKind::failed, "no cgroup v2 hierarchy is mounted");
    error.value().mend = "mount one: mount -t cgroup2 none /sys/fs/cgroup/unified";
    return error;
}

std::string instance_name(const std::string& cgroup)
{
    const auto root = find_cgroup2_root();
    std::error_code ignored;
    const std::string folder = std::filesystem::weakly_canonical(cgroup, ignored).string();
    std::string name = below(root ? *root : "/sys/fs/cgroup", folder.empty() ? cgroup : folder);
    if (name.empty())
        return "host";
    std::replace(name.begin(), name.end(), '/', '-');
    return name;
}

Result<std::uint64_t> cgroup_id_of(const std::string& folder)
{
    struct statfs fs {};
    struct stat status {};
    if (::statfs(folder.c_str(), &fs) != 0 || ::stat(folder.c_str(), &status) != 0)
        return fail_errno(errno, fmt::format("cgroup {}", folder));
    if (fs.f_type != CGROUP2_SUPER_MAGIC || !S_ISDIR(status.st_mode)) {
        auto error = fail(ErrorKind::failed, "cgroup {}: not a cgroup v2 folder", folder);
        error.value().mend = "name a folder below the cgroup2 mount (findmnt -t cgroup2)";
        return error;
    }
    return status.st_ino;
}

Result<CgroupTree> CgroupTree::open(const std::string& root)
{
    BULKHEAD_TRY(const std::uint64_t id, cgroup_id_of(root));
    UniqueFd fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd)
        return fail_errno(errno, fmt::format("open {}", root));
    return CgroupTree(root, std::move(fd), id);
}

UniqueFd CgroupTree::open_folder(std::uint64_t id) const
{
    alignas(file_handle) std::array<std::byte, sizeof(file_handle) + sizeof(id)> buffer{};
    auto* handle = new (buffer.data()) file_handle{};
    handle->handle_bytes = sizeof(id);
    handle->handle_type = handle_type_kernfs;
    std::memcpy(buffer.data() + offsetof(file_handle, f_handle), &id, sizeof(id));
    UniqueFd fd(::open_by_handle_at(root_fd_.get(), handle, O_PATH | O_CLOEXEC));
    if (fd || errno != EPERM)
        return fd;
    // Without CAP_DAC_READ_SEARCH handles cannot be opened: look for it.
    std::error_code error;
    for (auto it = std::filesystem::recursive_directory_iterator(root_, error); it != std::filesystem::end(it);
         it.increment(error)) {
        struct stat status {};
        if (it->is_directory(error) && ::stat(it->path().c_str(), &status) == 0 && status.st_ino == id)
            return UniqueFd(::open(it->path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
    return {};
}

const CgroupTree::Place& CgroupTree::remember(const Place& place)
{
    if (known_.size() >= max_known)
        known_.clear();
    return known_.emplace(place.path.id[0], place).first->second;
}

// By descriptors: a path longer than PATH_MAX cannot be read, and whoever may make cgroups can make one.
const CgroupTree::Place& CgroupTree::place_of(std::uint64_t id)
{
    if (const auto found = known_.find(id); found != known_.end())
        return found->second;
    std::vector<std::uint64_t> way; // from the cgroup upwards, to the first that is known
    std::optional<Place> above;
    struct stat root {};
    auto folder = ::fstat(root_fd_.get(), &root) == 0 ? open_folder(id) : UniqueFd();
    while (folder) {
        struct stat status {};
        if (::fstat(folder.get(), &status) != 0 || status.st_dev != root.st_dev) // of another cgroup namespace
            break;
        const auto met = known_.find(status.st_ino);
        if (status.st_ino == root_id_)
            above = Place{{{root_id_}}, 0};
        else if (met != known_.end())
            above = met->second;
        if (above)
            break;
        way.push_back(status.st_ino);
        folder = UniqueFd(::openat(folder.get(), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
    if (!above || (way.empty() ? id != root_id_ : way.front() != id)) // gone, or being made: it is not remembered
        return unknown_ = {{{id}}, 0};
    for (auto next = way.rbegin(); next != way.rend(); ++next) {
        auto place = *above;
        if (above->level > 0 && above->level < BH_CGROUP_LEVELS)
            place.path.id[BH_CGROUP_LEVELS - above->level] = above->path.id[0];
        place.path.id[0] = *next;
        ++place.level;
        above = place;
        if (place.level % remembered_levels == 0)
            remember(place);
    }
    return remember(*above);
}

} // namespace bulkhead::agent
