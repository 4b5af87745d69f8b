// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bulkhead::cli {

// A tar archive (POSIX.1-1988, ustar) in memory: regular files of root, mode 0600.
class Tar {
public:
    explicit Tar(std::int64_t unix_seconds) : time_(unix_seconds) {}

    // The name is a path without a leading slash, at most 99 bytes.
    void add(std::string_view name, std::string_view content);
    [[nodiscard]] std::string finish() &&;

private:
    std::int64_t time_;
    std::string bytes_;
};

} // namespace bulkhead::cli
