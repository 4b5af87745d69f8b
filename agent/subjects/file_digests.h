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
    // Digests that nobody asked for since some calls: during a trial, two policies are asked about in turn.
    void forget_unused();

private:
    struct Known {
        std::string digest;
        int unused_for = 0; // calls of forget_unused()
    };
    std::map<FileIdentity, Known> known_;
};

} // namespace bulkhead::agent
