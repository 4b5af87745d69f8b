// SPDX-License-Identifier: Apache-2.0
#include "agent/state/atomic_file.h"

#include "common/core/unique_fd.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

Status write_all(int fd, std::string_view bytes, const std::string& path)
{
    while (!bytes.empty()) {
        const auto written = ::write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return fail_errno(errno, "write " + path);
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return {};
}

Status write_and_sync(const std::string& path, std::string_view bytes, mode_t mode)
{
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
    if (!file)
        return fail_errno(errno, "create " + path);
    if (::fchmod(file.get(), mode) != 0) // the umask must not decide, nor a left-over file's mode
        return fail_errno(errno, "chmod " + path);
    BULKHEAD_CHECK(write_all(file.get(), bytes, path));
    if (::fsync(file.get()) != 0)
        return fail_errno(errno, "fsync " + path);
    return {};
}

} // namespace

Status write_file_atomically(const std::string& path, std::string_view bytes, mode_t mode)
{
    const std::string temporary = path + ".tmp";
    if (auto written = write_and_sync(temporary, bytes, mode); !written) {
        ::unlink(temporary.c_str());
        return written;
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
        const int error = errno;
        ::unlink(temporary.c_str());
        return fail_errno(error, "rename " + temporary);
    }
    return sync_folder(std::filesystem::path(path).parent_path().string());
}

Status sync_folder(const std::string& folder)
{
    const UniqueFd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || ::fsync(directory.get()) != 0)
        return fail_errno(errno, "fsync " + folder);
    return {};
}

Result<std::optional<std::string>> read_file_if_there(const std::string& path)
{
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file && (errno == ENOENT || errno == ENOTDIR))
        return std::nullopt;
    if (!file)
        return fail_errno(errno, "open " + path);
    std::string bytes;
    char block[65536];
    for (;;) {
        const auto count = ::read(file.get(), block, sizeof block);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "read " + path);
        if (count == 0)
            return bytes;
        bytes.append(block, static_cast<std::size_t>(count));
    }
}

std::string set_aside(const std::string& path)
{
    const std::string aside = path + ".damaged";
    if (::rename(path.c_str(), aside.c_str()) == 0)
        return "set aside as " + aside;
    return "it cannot be set aside: " + std::generic_category().message(errno);
}

} // namespace bulkhead::agent
