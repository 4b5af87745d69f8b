// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/file_identity.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>

namespace bulkhead::agent {
namespace {

// "36 35 98:0 /mnt1 /mnt2 ..." (proc(5)): mount id, parent id, major:minor.
std::optional<std::uint32_t> device_of_mount(const std::string& mountinfo, std::uint64_t mount_id)
{
    std::ifstream lines(mountinfo);
    std::uint64_t id = 0;
    std::uint64_t parent = 0;
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    for (std::string line; std::getline(lines, line);)
        if (std::sscanf(line.c_str(), "%lu %lu %u:%u", &id, &parent, &major, &minor) == 4 && id == mount_id)
            return kernel_device(major, minor);
    return std::nullopt;
}

std::uint32_t device_of(const struct statx& file, const std::string& mountinfo)
{
    const auto shown = kernel_device(file.stx_dev_major, file.stx_dev_minor);
    // A file system on a block device has that device's number everywhere; the others are anonymous (major 0).
    if (file.stx_dev_major != 0 || (file.stx_mask & STATX_MNT_ID) == 0)
        return shown;
    return device_of_mount(mountinfo, file.stx_mnt_id).value_or(shown);
}

std::int64_t nanoseconds(const statx_timestamp& time)
{
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

} // namespace

bool FileIdentity::is_program() const
{
    return S_ISREG(mode) && (mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0;
}

std::optional<FileIdentity> identify_file(const std::string& path, const std::string& mountinfo)
{
    struct statx file {};
    if (::statx(AT_FDCWD, path.c_str(), 0, STATX_BASIC_STATS | STATX_MNT_ID, &file) != 0)
        return std::nullopt;
    FileIdentity identity;
    identity.device = device_of(file, mountinfo);
    identity.inode = file.stx_ino;
    identity.size = file.stx_size;
    identity.modified_ns = nanoseconds(file.stx_mtime);
    identity.changed_ns = nanoseconds(file.stx_ctime);
    identity.mode = file.stx_mode;
    identity.owner = file.stx_uid;
    return identity;
}

} // namespace bulkhead::agent
