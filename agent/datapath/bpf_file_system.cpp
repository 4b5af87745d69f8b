// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/bpf_file_system.h"

#include "common/core/unique_fd.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <thread>

namespace bulkhead::agent {

namespace {

constexpr const char* own_mounts = "/proc/self/ns/mnt";
constexpr const char* mounts_of_init = "/proc/1/ns/mnt";

Status mount_here(const std::string& where)
{
    std::error_code error;
    std::filesystem::create_directories(where, error);
    if (::mount("bpf", where.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME, "mode=0700") == 0)
        return {};
    auto failure = fail_errno(errno, fmt::format("mount a bpf file system on {}", where));
    failure.value().mend = fmt::format("run as root, or let an administrator run: mount -t bpf bpf {}", where);
    return failure;
}

// Where init may not be looked at, it counts as being in the same one.
bool with_init()
{
    struct stat own {
    }, of_init{};
    return ::stat(own_mounts, &own) != 0 || ::stat(mounts_of_init, &of_init) != 0 || own.st_ino == of_init.st_ino;
}

// setns(2): a thread may change its mount namespace once it shares its file system attributes with no other.
Status mount_with_init(const std::string& where)
{
    const UniqueFd init(::open(mounts_of_init, O_RDONLY | O_CLOEXEC));
    if (!init)
        return fail_errno(errno, fmt::format("open {}", mounts_of_init));
    Status done;
    try {
        std::thread([&] {
            if (::unshare(CLONE_FS) != 0 || ::setns(init.get(), CLONE_NEWNS) != 0)
                done = fail_errno(errno, "enter init's mount namespace");
            else if (!on_bpf_file_system(where))
                done = mount_here(where);
        }).join();
    } catch (const std::system_error& error) {
        return fail(ErrorKind::failed, "start a thread for init's mount namespace: {}", error.code().message());
    }
    return done;
}

} // namespace

bool on_bpf_file_system(const std::string& path)
{
    struct statfs info {};
    return ::statfs(path.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC;
}

Status mount_bpf_file_system(const std::string& where)
{
    if (where != standard_bpf_mount || with_init())
        return mount_here(where);
    BULKHEAD_CHECK(mount_with_init(where));
    if (on_bpf_file_system(where))
        return {};
    return fail(ErrorKind::failed, "{} of the host does not show up in the agent's mount namespace: restart the agent",
                where);
}

} // namespace bulkhead::agent
