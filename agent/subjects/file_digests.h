// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/file_identity.h"

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>

namespace bulkhead::agent {

// Whose doing it is that a file is where a rule looks.
struct DigestParty {
    std::uint64_t place = 0; // where there are owners of its own: a mount namespace; 0: none
    std::uint32_t owner = 0;
    auto operator<=>(const DigestParty&) const = default;
};

// SHA-256 of program files, computed anew when inode, size or a time stamp has changed. ctime cannot be set back, short
// of writing to the disk behind the file system; what is written through a mapping that was written to before changes
// no time stamp, so a file that somebody has open for writing is not read (as far as a file system says so, by fcntl(2)
// F_SETLEASE: those of servers do not, and an overlay does not know who has mapped the file). Files above one GiB are
// not read.
//
// Whoever may write where a rule looks can lay as many large files there as he likes, so a thread of its own reads, and
// nobody waits for it longer than he wants to. Root's programs come first, with three turns of four; the others for a
// quarter of the time, party by party in turn; of one party the smallest first. Not thread-safe.
class FileDigests {
public:
    using Party = DigestParty;
    static constexpr Party root{};

    FileDigests();
    ~FileDigests(); // leaves the thread behind where a file holds it up
    FileDigests(const FileDigests&) = delete;
    FileDigests& operator=(const FileDigests&) = delete;

    // Begins to read, where the digest is not known. `path` opens the file, or did so a moment ago: all by which it was
    // wanted since forget_unwanted() are tried. Until it is read it is of whose it was first, or root's.
    void want(const FileIdentity& file, const std::string& path, const std::string& mountinfo, const Party& whose);
    // Until what is wanted has been read; at most so long, and for what is not root's a tenth of that.
    void wait(std::chrono::milliseconds at_most);
    // Lower-case hex; nullopt when the file is not read yet, cannot be read, is too large or being written to, or
    // changed while it was read (then it is read again when it is wanted again).
    [[nodiscard]] std::optional<std::string> of(const FileIdentity& file) const;
    [[nodiscard]] bool is_unread(const FileIdentity& file) const; // wanted, and there is no answer yet
    // About once a second, before what is wanted now. What nobody wanted since some calls is not read any more; answers
    // are kept for longer, for programs that run now and then.
    void forget_unwanted();

private:
    struct Work;
    class Reader;

    std::shared_ptr<Work> work_;
    std::thread thread_;
};

} // namespace bulkhead::agent
