// SPDX-License-Identifier: Apache-2.0
#include "agent/state/locks.h"

#include "agent/state/atomic_file.h"
#include "common/core/log.h"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

Result<UniqueFd> take(UniqueFd file, const std::string& what, const std::string& mend)
{
    if (::flock(file.get(), LOCK_EX | LOCK_NB) == 0)
        return file;
    if (errno != EWOULDBLOCK)
        return fail_errno(errno, "lock " + what);
    return tl::unexpected<Error>(
        Error{ErrorKind::refused, fmt::format("another bulkheadd is running on {} ({})", what, mend), mend});
}

bool is_hex_id(const std::string& text)
{
    return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

} // namespace

Status prepare_state_dir(const std::string& dir)
{
    std::error_code error;
    if (const auto found = std::filesystem::status(dir, error);
        std::filesystem::exists(found) && !std::filesystem::is_directory(found))
        log_error("the state folder {} is no folder; {}", dir, set_aside(dir));
    std::filesystem::create_directories(std::filesystem::path(dir).parent_path(), error);
    if (error)
        return fail(ErrorKind::failed, "create the folder of {}: {}", dir, error.message());
    if (::mkdir(dir.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(errno, "create " + dir);
    if (::chmod(dir.c_str(), 0700) != 0)
        return fail_errno(errno, "chmod 0700 " + dir);
    if (::faccessat(AT_FDCWD, dir.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
        return fail_errno(errno, "write to " + dir);
    return {};
}

Result<UniqueFd> lock_state_dir(const std::string& dir)
{
    const std::string path = dir + "/lock";
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    const int why = errno;
    if (!file)
        file = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!file)
        file = UniqueFd(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!file)
        return fail_errno(why, "open " + path);
    return take(std::move(file), "state folder " + dir, "stop it, or give this one a --state-dir of its own");
}

Result<UniqueFd> lock_cgroup(const std::string& cgroup)
{
    UniqueFd folder(::open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder)
        return fail_errno(errno, "open cgroup " + cgroup);
    return take(std::move(folder), "cgroup " + cgroup, "stop it, or give this one a --cgroup of its own");
}

Result<std::string> standalone_agent_id(const std::string& state_dir)
{
    const std::string path = state_dir + "/agent-id";
    BULKHEAD_TRY(const auto kept, read_file_if_there(path));
    if (kept && is_hex_id(*kept))
        return *kept;
    if (kept)
        log_warning("{} is damaged: this agent has a new id from now on", path);
    BULKHEAD_TRY(const auto id, random_agent_id());
    BULKHEAD_CHECK(write_file_atomically(path, id, 0600));
    return id;
}

Result<std::string> random_agent_id()
{
    std::array<unsigned char, 16> random{};
    if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
        return fail_errno(errno, "getrandom");
    std::string id;
    for (const auto byte : random)
        id += fmt::format("{:02x}", byte);
    return id;
}

} // namespace bulkhead::agent
