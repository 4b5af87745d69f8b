// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/file_identity.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace bulkhead::agent {

// SHA-256 of program files, computed anew when inode, size or a time stamp has changed. ctime cannot be set back, short
// of writing to the disk behind the file system. Files above one GiB are not read.
//
// Whoever may write where a rule looks can lay as many large files there as he likes, so a thread of its own reads, and
// nobody waits for it longer than he wants to: programs that only root can have put there first, the others for a
// quarter of the time, owner by owner in turn. Not thread-safe.
class FileDigests {
public:
    enum class Of { root, others }; // whose doing it is that the file is there

    FileDigests();
    ~FileDigests(); // leaves the thread behind where a file holds it up
    FileDigests(const FileDigests&) = delete;
    FileDigests& operator=(const FileDigests&) = delete;

    // Begins to read, where the digest is not known. `path` opens the file.
    void want(const FileIdentity& file, const std::string& path, const std::string& mountinfo, Of whose);
    // Until what is wanted has been read; at most so long, and for what others have put there a tenth of that.
    void wait(std::chrono::milliseconds at_most);
    // Lower-case hex; nullopt when the file is not read yet, cannot be read, is too large, or changed while it was
    // read (then it is read again when it is wanted again).
    [[nodiscard]] std::optional<std::string> of(const FileIdentity& file) const;
    [[nodiscard]] bool is_unread(const FileIdentity& file) const; // wanted, and there is no answer yet
    // What nobody wanted since some calls: during a trial, two policies are asked about in turn.
    void forget_unwanted();

private:
    struct Work;
    class Reader;

    std::shared_ptr<Work> work_;
    std::thread thread_;
};

} // namespace bulkhead::agent
