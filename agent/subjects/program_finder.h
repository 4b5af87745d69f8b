// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace bulkhead::agent {

// Paths that an `exe` glob names (common/policy/glob.h), found by reading only the folders that can hold them;
// everything below where the pattern has a `**`. Symlinks to folders are followed where the pattern names them, not
// below a `**`. Remembers what it read and reads a folder again only when it has changed. Bounded in folders, entries
// and time.
class ProgramFinder {
public:
    explicit ProgramFinder(const Clock& clock) : clock_(clock) {}

    struct Found {
        std::vector<std::string> paths; // sorted; of the literal part of a pattern it is not known that they exist
        bool complete = true;           // false: a bound was hit, there may be more
    };
    const Found& find(const std::string& pattern);
    void keep_only(const std::vector<std::string>& patterns); // forgets the others

private:
    struct Folder {
        std::string path;
        std::uint64_t device = 0, inode = 0; // 0: there is none
        std::int64_t changed_ns = 0;
        bool settled = false; // its time stamp is older than the reading, so another change would show
    };
    struct Expansion {
        std::vector<Folder> folders;
        Found found;
        MonotonicTime at{};
    };
    class Search;

    [[nodiscard]] static Folder look_at(const std::string& path, WallTime now);
    [[nodiscard]] bool is_fresh(const Expansion& expansion) const;

    const Clock& clock_;
    std::map<std::string, Expansion> expansions_;
};

} // namespace bulkhead::agent
