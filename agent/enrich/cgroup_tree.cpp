// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/cgroup_tree.h"

#include "common/core/unique_fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_cgroups = 65536;
constexpr std::size_t max_remembered = 16384;
constexpr int most_hidden_levels = 4096;
constexpr int fileid_kernfs = 0xfe; // FILEID_KERNFS of include/linux/exportfs.h: the handle is the 64-bit id

bool is_cgroup2(const std::string& folder)
{
    struct statfs file_system {};
    return ::statfs(folder.c_str(), &file_system) == 0 && file_system.f_type == CGROUP2_SUPER_MAGIC;
}

std::string joined(const std::string& path, std::string_view name)
{
    return (path == "/" ? "" : path) + "/" + std::string(name);
}

struct Subfolders {
    std::vector<std::string> names;
    bool complete = true;
};

Subfolders subfolders(const std::string& folder, std::size_t most)
{
    Subfolders found;
    auto& names = found.names;
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), ::closedir);
    while (const auto* entry = open ? ::readdir(open.get()) : nullptr) {
        const std::string_view name = entry->d_name;
        if (entry->d_type != DT_DIR || name == "." || name == "..")
            continue;
        if (found.complete = names.size() < most; !found.complete)
            break;
        names.emplace_back(name);
    }
    std::sort(names.begin(), names.end(), std::greater<>()); // a stack gives them back in name order
    return found;
}

struct Opened {
    std::string path;
    int error = 0;
};

std::string shown_path(const UniqueFd& folder)
{
    std::array<char, PATH_MAX> text{};
    const auto link = "/proc/self/fd/" + std::to_string(folder.get());
    const auto length = ::readlink(link.c_str(), text.data(), text.size());
    return {text.data(), length > 0 ? static_cast<std::size_t>(length) : 0};
}

// The kernel finds a cgroup by its id (name_to_handle_at(2)); needs CAP_DAC_READ_SEARCH.
Opened open_by_id(const std::string& mount, std::uint64_t id)
{
    const UniqueFd root(::open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!root)
        return {{}, errno};
    alignas(file_handle) std::array<char, sizeof(file_handle) + sizeof(id)> bytes{};
    auto* handle = new (bytes.data()) file_handle{};
    handle->handle_bytes = sizeof(id);
    handle->handle_type = fileid_kernfs;
    std::memcpy(bytes.data() + offsetof(file_handle, f_handle), &id, sizeof(id));
    UniqueFd folder(::open_by_handle_at(root.get(), handle, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder)
        return {{}, errno};
    // Whoever may make cgroups makes paths that are too long to be shown; then the longest part that can be.
    auto path = shown_path(folder);
    const bool whole = !path.empty();
    for (int i = 0; path.empty() && folder && i < most_hidden_levels; ++i) {
        folder = UniqueFd(::openat(folder.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        path = folder ? shown_path(folder) : std::string{};
    }
    if (path == mount || path.empty()) // or too deep even for that
        return {whole ? "/" : "/…", 0};
    struct stat there {
    }, here{};
    const bool is_there = ::lstat(path.c_str(), &there) == 0 && ::fstat(folder.get(), &here) == 0 &&
                          there.st_dev == here.st_dev && there.st_ino == here.st_ino;
    if (!path.starts_with(mount + "/") || !is_there) // "(deleted)", and no name that looks so
        return {{}, ENOENT};
    return {path.substr(mount.size()) + (whole ? "" : "/…"), 0};
}

} // namespace

bool walk_cgroups(const std::string& mount, const std::string& below,
                  const std::function<std::size_t&(const CgroupFolder&)>& visit)
{
    const bool kernel = is_cgroup2(mount);
    std::vector<std::string> waiting{below};
    bool complete = true;
    while (!waiting.empty()) {
        const auto path = std::move(waiting.back());
        waiting.pop_back();
        const auto folder = mount + path;
        struct stat status {};
        if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
            complete = complete && errno != ENAMETOOLONG;
            continue;
        }
        auto& left = visit({path, status.st_ino, status.st_uid});
        // A cgroup counts its children in its link count, and most have none: no need to list their fifty files.
        if (kernel && status.st_nlink <= 2)
            continue;
        const auto found = subfolders(folder, left);
        // Whom it was given to since may have made some of them: who names them has to be known to `visit` first.
        const auto owner = status.st_uid;
        if (::lstat(folder.c_str(), &status) != 0 || status.st_uid != owner)
            continue;
        left -= found.names.size();
        complete = complete && found.complete;
        for (const auto& name : found.names)
            waiting.push_back(joined(path, name));
    }
    return complete;
}

std::string cgroup_mount_of(const std::string& folder)
{
    namespace fs = std::filesystem;
    fs::path mount = fs::path(folder).lexically_normal();
    if (!mount.has_filename() && mount.has_relative_path()) // "/a/b/" -> "/a/b"
        mount = mount.parent_path();
    if (is_cgroup2(mount))
        while (mount.has_relative_path() && is_cgroup2(mount.parent_path()))
            mount = mount.parent_path();
    return mount;
}

std::string CgroupIndex::path_of(std::uint64_t id, const std::string& hint)
{
    if (id == 0)
        return {};
    if (const auto known = paths_.find(id); known != paths_.end())
        return known->second;
    struct stat status {};
    if (!hint.empty() && ::stat((mount_ + hint).c_str(), &status) == 0 && status.st_ino == id) {
        remember(id, hint);
        return hint;
    }
    if (auto opened = open_by_id(mount_, id); !opened.path.empty()) {
        remember(id, opened.path);
        return opened.path;
    } else if (opened.error == ESTALE || opened.error == ENOENT) {
        return {};
    }
    walk();
    const auto found = paths_.find(id);
    return found == paths_.end() ? std::string{} : found->second;
}

void CgroupIndex::remember(std::uint64_t id, std::string path)
{
    if (paths_.size() >= max_remembered)
        paths_.clear();
    paths_.emplace(id, std::move(path));
}

// Without the capability: read the tree, at most once a second, for the ids come as fast as connections do.
void CgroupIndex::walk()
{
    const auto now = clock_.monotonic();
    if (walked_ && now - *walked_ < std::chrono::seconds(1))
        return;
    walked_ = now;
    auto left = max_cgroups;
    walk_cgroups(mount_, "/", [&](const CgroupFolder& folder) -> std::size_t& {
        remember(folder.id, folder.path);
        return left;
    });
}

} // namespace bulkhead::agent
