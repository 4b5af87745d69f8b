// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace bulkhead::agent {

// What a line of proc_pid_mountinfo(5) says, unescaped.
struct MountedFileSystem {
    std::string type;
    std::string root; // what of the file system is mounted; of nsfs, a namespace: "net:[4026532281]"
    std::string point;
};
[[nodiscard]] std::optional<MountedFileSystem> parse_mountinfo(const std::string& line);

} // namespace bulkhead::agent
