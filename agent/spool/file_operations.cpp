// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/file_operations.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

namespace bulkhead::agent {
namespace {

constexpr mode_t file_mode = 0600;

struct CloseDir {
    void operator()(DIR* dir) const { ::closedir(dir); }
};

class SystemFiles final : public FileOperations {
public:
    Result<UniqueFd> open(const std::string& path, int flags) override
    {
        UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, file_mode));
        if (!fd)
            return fail_errno(errno, "open " + path);
        return fd;
    }

    Status write_at(int fd, std::string_view bytes, std::uint64_t offset) override
    {
        while (!bytes.empty()) {
            const auto written = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
            if (written < 0 && errno == EINTR)
                continue;
            if (written <= 0)
                return fail_errno(written < 0 ? errno : ENOSPC, "write");
            bytes.remove_prefix(static_cast<std::size_t>(written));
            offset += static_cast<std::uint64_t>(written);
        }
        return {};
    }

    Result<std::string> read_at(int fd, std::size_t size, std::uint64_t offset) override
    {
        struct stat status{};
        if (::fstat(fd, &status) != 0)
            return fail_errno(errno, "stat");
        const auto file_bytes = static_cast<std::uint64_t>(status.st_size);
        size = static_cast<std::size_t>(std::min<std::uint64_t>(size, file_bytes - std::min(file_bytes, offset)));
        std::string bytes(size, '\0');
        std::size_t have = 0;
        while (have < size) {
            const auto count = ::pread(fd, bytes.data() + have, size - have, static_cast<off_t>(offset + have));
            if (count < 0 && errno == EINTR)
                continue;
            if (count < 0)
                return fail_errno(errno, "read");
            if (count == 0)
                break;
            have += static_cast<std::size_t>(count);
        }
        bytes.resize(have);
        return bytes;
    }

    Status truncate(int fd, std::uint64_t size) override
    {
        return ::ftruncate(fd, static_cast<off_t>(size)) == 0 ? Status{} : Status{fail_errno(errno, "truncate")};
    }

    Status sync(int fd) override { return ::fdatasync(fd) == 0 ? Status{} : Status{fail_errno(errno, "fdatasync")}; }

    Status rename(const std::string& from, const std::string& to) override
    {
        return ::rename(from.c_str(), to.c_str()) == 0 ? Status{} : Status{fail_errno(errno, "rename " + from)};
    }

    Status remove(const std::string& path) override
    {
        return ::unlink(path.c_str()) == 0 ? Status{} : Status{fail_errno(errno, "unlink " + path)};
    }

    Result<std::vector<std::string>> list(const std::string& path) override
    {
        const std::unique_ptr<DIR, CloseDir> dir(::opendir(path.c_str()));
        if (!dir)
            return fail_errno(errno, "open " + path);
        std::vector<std::string> names;
        while (true) {
            errno = 0;
            const dirent* entry = ::readdir(dir.get());
            if (entry == nullptr && errno != 0)
                return fail_errno(errno, "read " + path);
            if (entry == nullptr)
                break;
            struct stat status {};
            if (::fstatat(::dirfd(dir.get()), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
                S_ISREG(status.st_mode))
                names.emplace_back(entry->d_name);
        }
        std::sort(names.begin(), names.end());
        return names;
    }
};

} // namespace

FileOperations& system_files()
{
    static SystemFiles files;
    return files;
}

} // namespace bulkhead::agent
