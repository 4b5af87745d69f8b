// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <string>
#include <sys/types.h>

namespace bulkhead::agent {

// Tells that something in a folder has changed: files written, renamed over, removed; the folder replaced, removed or
// made again. Not thread-safe.
class FolderWatch {
public:
    [[nodiscard]] static Result<FolderWatch> create(std::string folder);

    [[nodiscard]] int fd() const { return inotify_.get(); }
    // When fd() is readable: true when the folder's policy may have changed.
    bool read_events();
    // Once a second: inotify follows a folder, not its name. True when the name means another folder than before, or
    // none.
    bool check_folder();

private:
    FolderWatch(std::string folder, UniqueFd inotify) : folder_(std::move(folder)), inotify_(std::move(inotify)) {}

    std::string folder_;
    UniqueFd inotify_;
    int watch_ = -1;
    dev_t device_ = 0;
    ino_t inode_ = 0; // 0: there is no such folder
};

} // namespace bulkhead::agent
