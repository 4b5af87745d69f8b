// SPDX-License-Identifier: Apache-2.0
#pragma once

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
};

// Follows symlinks; nullopt when there is no such file. `mountinfo` is /proc/PID/mountinfo of a process in the file's
// mount namespace: stat(2) may show another device than s_dev (btrfs and some overlays answer with an anonymous one
// of a subvolume or a layer), then the file's line in mountinfo, which prints s_dev itself, decides. That needs
// STATX_MNT_ID (Linux 5.8).
[[nodiscard]] std::optional<FileIdentity> identify_file(const std::string& path, const std::string& mountinfo);

} // namespace bulkhead::agent
