// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/file_operations.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <limits>
#include <utility>

namespace bulkhead::agent {

// The system's files on a disk that fills up or breaks.
class FaultyFiles final : public FileOperations {
public:
    std::uint64_t room = std::numeric_limits<std::uint64_t>::max(); // bytes until ENOSPC; a write is cut short there
    std::uint64_t changes_left = std::numeric_limits<std::uint64_t>::max(); // then every change fails: a dead disk
    std::uint64_t changes = 0;
    bool broken_sync = false;
    std::uint64_t syncs = 0;
    std::function<void()> in_next_sync; // as if by another thread

    Result<UniqueFd> open(const std::string& path, int flags) override { return system_files().open(path, flags); }
    Status write_at(int fd, std::string_view bytes, std::uint64_t offset) override
    {
        BULKHEAD_CHECK(change());
        const auto size = size_of(fd);
        const auto end = offset + bytes.size();
        const auto grows = end > size ? end - size : 0; // what lies over old bytes needs no room
        const auto fits =
            grows > room ? bytes.size() - std::min<std::uint64_t>(grows - room, bytes.size()) : bytes.size();
        BULKHEAD_CHECK(system_files().write_at(fd, bytes.substr(0, fits), offset));
        room -= std::min(room, grows);
        return fits == bytes.size() ? Status{} : Status{fail_errno(ENOSPC, "write")};
    }
    Result<std::string> read_at(int fd, std::size_t size, std::uint64_t offset) override
    {
        return system_files().read_at(fd, size, offset);
    }
    Status truncate(int fd, std::uint64_t size) override
    {
        BULKHEAD_CHECK(change());
        const auto before = size_of(fd);
        if (before > size && room != std::numeric_limits<std::uint64_t>::max())
            room += before - size;
        return system_files().truncate(fd, size);
    }
    Status sync(int fd) override
    {
        ++syncs;
        if (in_next_sync)
            std::exchange(in_next_sync, nullptr)();
        return broken_sync ? Status{fail_errno(EIO, "fdatasync")} : system_files().sync(fd);
    }
    Status rename(const std::string& from, const std::string& to) override
    {
        BULKHEAD_CHECK(change());
        return system_files().rename(from, to);
    }
    Status remove(const std::string& path) override
    {
        BULKHEAD_CHECK(change());
        return system_files().remove(path);
    }
    Result<std::vector<std::string>> list(const std::string& dir) override { return system_files().list(dir); }

private:
    static std::uint64_t size_of(int fd)
    {
        struct stat status {};
        return ::fstat(fd, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
    }
    Status change()
    {
        ++changes;
        if (changes_left == 0)
            return fail_errno(EIO, "disk");
        --changes_left;
        return {};
    }
};

} // namespace bulkhead::agent
