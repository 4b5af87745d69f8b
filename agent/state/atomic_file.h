// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>

namespace bulkhead::agent {

// Replaces a file whole: temporary file beside it, fsync, rename, fsync of the folder. After a crash there is the old
// file or the new one. On error the old one is untouched and the temporary file is gone.
[[nodiscard]] Status write_file_atomically(const std::string& path, std::string_view bytes, mode_t mode);

// A rename lasts when the folder is on the disk.
[[nodiscard]] Status sync_folder(const std::string& folder);

// nullopt when there is no such file.
[[nodiscard]] Result<std::optional<std::string>> read_file_if_there(const std::string& path);

// Renames what is broken to PATH.damaged, over an older one. Says in words what came of it.
std::string set_aside(const std::string& path);

} // namespace bulkhead::agent
