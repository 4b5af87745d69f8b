// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/file_identity.h"
#include "common/core/unique_fd.h"

#include <openssl/types.h>

#include <atomic>
#include <compare>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::agent {

// How a file may be opened, and /proc/PID/mountinfo of a process in the mount namespace that it is in then.
struct DigestWay {
    std::string path, mountinfo;
    auto operator<=>(const DigestWay&) const = default;
};

// Reads a file in turns for its SHA-256. What lies at the path may be another one by now, which its owner chose, and
// any file but a regular one may do something when it is opened: so it is looked at first, and what was looked at is
// opened.
class Digestion {
public:
    Digestion(const FileIdentity& file, const DigestWay& way);

    // Some megabytes, fewer when `stop` becomes true. True when there is nothing left to read.
    bool read_on(const std::atomic<bool>& stop);
    // After the end: lower-case hex; nullopt when the file is another one, cannot be read, or may have changed
    // meanwhile.
    [[nodiscard]] std::optional<std::string> digest();

private:
    [[nodiscard]] bool open(const DigestWay& way);
    [[nodiscard]] bool is_settled() const;

    FileIdentity file_;
    FileIdentity shown_{}; // as statx(2) has it
    UniqueFd fd_;
    std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> hash_;
    std::vector<char> buffer_;
    std::uint64_t left_; // one more than the file has
    bool failed_ = false;
};

} // namespace bulkhead::agent
