// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/file_identity.h"

#include "agent/enrich/mounts.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>

namespace bulkhead::agent {
namespace {

// Anybody may have 100,000 mounts in a namespace of his own, of 4,000 bytes each, and have them read for each of his
// processes. What comes late in the list has the device that stat(2) shows.
constexpr std::size_t most_of_mountinfo = 1U << 20;

std::int64_t nanoseconds(const statx_timestamp& time)
{
    return time.tv_sec * 1'000'000'000 + time.tv_nsec;
}

} // namespace

std::optional<std::uint32_t> device_of_mount(const std::string& mountinfo, std::uint64_t mount_id)
{
    std::ifstream lines(mountinfo);
    std::size_t read = 0;
    const auto number = std::to_string(mount_id) + ' ';
    for (std::string line; read < most_of_mountinfo && std::getline(lines, line); read += line.size())
        if (line.starts_with(number))
            if (const auto mount = parse_mount(line))
                return mount->device;
    return std::nullopt;
}

bool FileIdentity::is_program() const
{
    return S_ISREG(mode) && (mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0;
}

bool FileIdentity::is_on_block_device() const
{
    return device >= kernel_device(1, 0); // the others are anonymous: major 0
}

std::optional<ShownFile> show_file(int folder, const std::string& path, int flags)
{
    struct statx file {};
    if (::statx(folder, path.c_str(), flags, STATX_BASIC_STATS | STATX_MNT_ID, &file) != 0)
        return std::nullopt;
    ShownFile shown;
    shown.file.device = kernel_device(file.stx_dev_major, file.stx_dev_minor);
    shown.file.inode = file.stx_ino;
    shown.file.size = file.stx_size;
    shown.file.modified_ns = nanoseconds(file.stx_mtime);
    shown.file.changed_ns = nanoseconds(file.stx_ctime);
    shown.file.mode = file.stx_mode;
    shown.file.owner = file.stx_uid;
    shown.links = file.stx_nlink;
    if ((file.stx_mask & STATX_MNT_ID) != 0)
        shown.mount = file.stx_mnt_id;
    return shown;
}

FileIdentity identify_file(const ShownFile& shown, const std::string& mountinfo)
{
    auto file = shown.file;
    if (!file.is_on_block_device() && shown.mount)
        file.device = device_of_mount(mountinfo, *shown.mount).value_or(file.device);
    return file;
}

UniqueFd open_place(const std::string& path, int flags)
{
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC | (flags == 0 ? O_PATH : 0));
    how.resolve = RESOLVE_NO_MAGICLINKS;
    UniqueFd place(static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof(how))));
    return place;
}

std::optional<FileIdentity> identify_file(const std::string& path, const std::string& mountinfo)
{
    const auto place = open_place(path);
    const auto shown = place ? show_file(place.get(), "", AT_EMPTY_PATH) : std::nullopt;
    return shown ? std::optional(identify_file(*shown, mountinfo)) : std::nullopt;
}

} // namespace bulkhead::agent
