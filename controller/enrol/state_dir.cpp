// SPDX-License-Identifier: Apache-2.0
#include "controller/enrol/state_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>

namespace bulkhead::controller {
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

} // namespace

Result<StateDir> StateDir::open(const std::string& path)
{
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, "make the state folder " + path);
    const UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fchmod(folder.get(), 0700) != 0)
        return fail_errno(errno, "state folder " + path);
    UniqueFd lock(::open((path + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!lock)
        return fail_errno(errno, "lock the state folder " + path);
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return tl::unexpected<Error>(
                Error{ErrorKind::failed, fmt::format("another bulkhead-controller runs on the state folder {}", path),
                      "stop it, or give this one a --state-dir of its own"});
        return fail_errno(errno, "lock the state folder " + path);
    }
    return StateDir(path, std::move(lock));
}

Result<std::optional<std::string>> StateDir::read(const std::string& name) const
{
    const auto file = path(name);
    const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        if (errno == ENOENT)
            return std::nullopt;
        return fail_errno(errno, "open " + file);
    }
    std::string content;
    std::array<char, 4096> buffer{};
    for (;;) {
        const auto count = ::read(fd.get(), buffer.data(), buffer.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail_errno(errno, "read " + file);
        if (count == 0)
            return content;
        content.append(buffer.data(), static_cast<std::size_t>(count));
    }
}

Status StateDir::write(const std::string& name, const std::string& content, mode_t mode) const
{
    const auto file = path(name);
    const auto aside = file + ".new";
    const UniqueFd fd(::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (!fd || ::fchmod(fd.get(), mode) != 0)
        return fail_errno(errno, "open " + aside);
    BULKHEAD_CHECK(write_all(fd.get(), content, aside));
    if (::fsync(fd.get()) != 0)
        return fail_errno(errno, "write " + aside);
    if (::rename(aside.c_str(), file.c_str()) != 0)
        return fail_errno(errno, "rename " + aside);
    const UniqueFd folder(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) != 0)
        return fail_errno(errno, "write " + path_);
    return {};
}

} // namespace bulkhead::controller
