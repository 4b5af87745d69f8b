// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::agent {

// The operations on files that the spool's promises depend on. The system's are below; tests inject faults. Errors name
// the path. Thread-safe.
class FileOperations {
public:
    virtual ~FileOperations() = default;
    virtual Result<UniqueFd> open(const std::string& path, int flags) = 0;                   // mode 0600, close-on-exec
    virtual Status write_at(int fd, std::string_view bytes, std::uint64_t offset) = 0;       // all of it, or an error
    virtual Result<std::string> read_at(int fd, std::size_t size, std::uint64_t offset) = 0; // less at the end of file
    virtual Status truncate(int fd, std::uint64_t size) = 0;
    virtual Status sync(int fd) = 0; // fdatasync
    virtual Status rename(const std::string& from, const std::string& to) = 0;
    virtual Status remove(const std::string& path) = 0;
    virtual Result<std::vector<std::string>> list(const std::string& dir) = 0; // names of regular files, sorted
};

[[nodiscard]] FileOperations& system_files();

} // namespace bulkhead::agent
