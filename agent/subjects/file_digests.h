// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/file_identity.h"

#include <map>
#include <optional>
#include <string>

namespace bulkhead::agent {

// SHA-256 of program files, computed anew when inode, size or a time stamp has changed. ctime cannot be set back, short
// of writing to the disk behind the file system. Files above one GiB are not read.
class FileDigests {
public:
    // Lower-case hex; nullopt when the file cannot be read, is too large, or changed while it was read.
    [[nodiscard]] std::optional<std::string> of(const FileIdentity& file, const std::string& path,
                                                const std::string& mountinfo);
    void forget_unused(); // digests that nobody asked for since the last call

private:
    struct Known {
        std::string digest;
        bool used = false;
    };
    std::map<FileIdentity, Known> known_;
};

} // namespace bulkhead::agent
