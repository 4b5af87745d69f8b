// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <sys/types.h>

#include <optional>
#include <string>

namespace bulkhead::controller {

// The folder that one controller owns: mode 0700, held by a lock as long as this object lives.
class StateDir {
public:
    // Makes the folder when it is not there. Refused when another controller holds it.
    [[nodiscard]] static Result<StateDir> open(const std::string& path);

    [[nodiscard]] std::string path(const std::string& name) const { return path_ + "/" + name; }
    // nullopt: no such file.
    [[nodiscard]] Result<std::optional<std::string>> read(const std::string& name) const;
    // The file is the old one or the new one, whole, whenever the machine stops.
    Status write(const std::string& name, const std::string& content, mode_t mode) const;

private:
    StateDir(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

    std::string path_;
    UniqueFd lock_;
};

} // namespace bulkhead::controller
