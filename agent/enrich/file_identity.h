// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <compare>
#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead::agent {

// The kernel's own dev_t (include/linux/kdev_t.h): 12 bits of major above 20 bits of minor.
[[nodiscard]] constexpr std::uint32_t kernel_device(std::uint32_t major, std::uint32_t minor)
{
    return (major << 20) | (minor & 0xfffffU);
}

// A file as the kernel's programs name it, and what changes when its content does.
struct FileIdentity {
    std::uint32_t device = 0; // kernel dev_t: s_dev of the file system
    std::uint64_t inode = 0;
    std::uint64_t size = 0;
    std::int64_t modified_ns = 0, changed_ns = 0;
    std::uint32_t mode = 0;  // st_mode
    std::uint32_t owner = 0; // uid
    auto operator<=>(const FileIdentity&) const = default;

    [[nodiscard]] bool is_program() const; // a regular file that somebody may execute
    [[nodiscard]] bool is_on_block_device() const;
};

// A file as statx(2) shows it.
struct ShownFile {
    FileIdentity file;                  // its device may be another than s_dev, unless it is on a block device
    std::uint32_t links = 0;            // names that it has
    std::optional<std::uint64_t> mount; // STATX_MNT_ID: all that agents run on have it (Linux 5.8)
};
[[nodiscard]] std::optional<ShownFile> show_file(int folder, const std::string& path, int flags); // as statx(2)

// What lies at a path, which others may have a part in, opened with `flags`, or O_PATH. Symlinks are followed, but none
// of /proc into the mounts of a process (open(2), magic links), whose file systems answer when they like.
[[nodiscard]] UniqueFd open_place(const std::string& path, int flags = 0);

// Follows symlinks as open_place() does; nullopt when there is no such file. `mountinfo` is /proc/PID/mountinfo of a
// process in the file's mount namespace: stat(2) may show another device than s_dev (btrfs and some overlays answer
// with an anonymous one of a subvolume or a layer), then the file's line in mountinfo, which prints s_dev itself,
// decides.
[[nodiscard]] std::optional<FileIdentity> identify_file(const std::string& path, const std::string& mountinfo);
[[nodiscard]] FileIdentity identify_file(const ShownFile& shown, const std::string& mountinfo);

// Of a mount that is in the list; of which some megabytes are read.
[[nodiscard]] std::optional<std::uint32_t> device_of_mount(const std::string& mountinfo, std::uint64_t mount_id);

} // namespace bulkhead::agent
