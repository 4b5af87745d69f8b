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

namespace bulkhead::agent {

namespace {

// Bound of the memory that ids of long-gone cgroups may take; what falls out is found again.
constexpr std::size_t max_known = 16384;

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

std::string CgroupTree::find_folder(std::uint64_t id) const
{
    alignas(file_handle) std::array<std::byte, sizeof(file_handle) + sizeof(id)> buffer{};
    auto* handle = new (buffer.data()) file_handle{};
    handle->handle_bytes = sizeof(id);
    handle->handle_type = handle_type_kernfs;
    std::memcpy(buffer.data() + offsetof(file_handle, f_handle), &id, sizeof(id));
    const UniqueFd fd(::open_by_handle_at(root_fd_.get(), handle, O_PATH | O_CLOEXEC));
    std::error_code error;
    if (fd) {
        const auto path = std::filesystem::read_symlink(fmt::format("/proc/self/fd/{}", fd.get()), error);
        return error ? std::string() : path.string();
    }
    if (errno != EPERM)
        return {};
    // Without CAP_DAC_READ_SEARCH handles cannot be opened: look for it.
    for (auto it = std::filesystem::recursive_directory_iterator(root_, error); it != std::filesystem::end(it);
         it.increment(error)) {
        struct stat status {};
        if (it->is_directory(error) && ::stat(it->path().c_str(), &status) == 0 && status.st_ino == id)
            return it->path().string();
    }
    return {};
}

const bh_cgroup_path& CgroupTree::enclosing(std::uint64_t id)
{
    if (const auto found = known_.find(id); found != known_.end())
        return found->second;

    std::filesystem::path folder = id == root_id_ ? root_ : find_folder(id);
    bh_cgroup_path path{};
    std::size_t level = 0;
    while (level < BH_CGROUP_LEVELS && !folder.empty()) {
        struct stat status {};
        if (::stat(folder.c_str(), &status) != 0)
            break; // removed while we looked
        path.id[level++] = status.st_ino;
        if (status.st_ino == root_id_)
            break;
        folder = folder.parent_path();
        if (folder.string().size() < root_.size())
            break;
    }
    if (path.id[0] != id)
        path = {{id}};
    if (known_.size() >= max_known)
        known_.clear();
    // What was not found is not remembered: it may be gone, or a folder that is being made.
    if (path.id[1] == 0 && id != root_id_)
        return unknown_ = path;
    return known_.emplace(id, path).first->second;
}

} // namespace bulkhead::agent
