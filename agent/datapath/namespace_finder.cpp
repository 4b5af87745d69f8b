// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/namespace_finder.h"

#include "agent/datapath/in_namespace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include <utility>

namespace bulkhead::agent {

namespace {

UniqueFd if_it_is(std::uint32_t inode, UniqueFd netns)
{
    return netns && namespace_inode(netns.get()) == inode ? std::move(netns) : UniqueFd();
}

UniqueFd open_of_thread(int tid)
{
    return UniqueFd(::open(fmt::format("/proc/{}/ns/net", tid).c_str(), O_RDONLY | O_CLOEXEC));
}

// Not the file there, which would keep whoever unmounts it from doing so (EBUSY) for as long as it is open. Root may
// have put anything over it, also a device.
UniqueFd open_of_mount(const std::string& place)
{
    const UniqueFd named(::open(place.c_str(), O_PATH | O_CLOEXEC));
    struct statfs system {};
    if (!named || ::fstatfs(named.get(), &system) != 0 || system.f_type != NSFS_MAGIC)
        return {};
    const UniqueFd file(::open(fmt::format("/proc/self/fd/{}", named.get()).c_str(), O_RDONLY | O_CLOEXEC));
    UniqueFd netns;
    if (file && ::ioctl(file.get(), NS_GET_NSTYPE) == CLONE_NEWNET)
        (void)in_namespace(file.get(), [&]() -> Status {
            const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
            netns = any ? UniqueFd(::ioctl(any.get(), SIOCGSKNS)) : UniqueFd();
            return {};
        });
    return netns;
}

// Of a user namespace. The kernel shows the parents up to the asker's own. Root makes them for others (userns-remap of
// Docker, LXD), so that he is no user by whom they could be told apart.
std::optional<std::uint32_t> maker_of_outermost(UniqueFd users)
{
    std::optional<std::uint32_t> maker;
    while (users) {
        UniqueFd parent(::ioctl(users.get(), NS_GET_PARENT));
        uid_t owner = 0;
        if (parent && ::ioctl(users.get(), NS_GET_OWNER_UID, &owner) == 0)
            maker = owner != 0 ? std::optional<std::uint32_t>(owner) : std::nullopt;
        users = std::move(parent);
    }
    return maker;
}

} // namespace

UniqueFd namespace_of_socket(int pidfd, int socket)
{
    const UniqueFd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, socket, 0)));
    return copy ? UniqueFd(::ioctl(copy.get(), SIOCGSKNS)) : UniqueFd();
}

UniqueFd open_namespace(std::uint32_t inode, const NamespaceHolder& holder)
{
    for (const int thread : {holder.tid, holder.pid})
        if (auto fd = thread > 0 ? if_it_is(inode, open_of_thread(thread)) : UniqueFd())
            return fd;
    // A socket stays in the namespace where it was made when those who hold it leave.
    if (holder.pid > 0 && holder.socket >= 0)
        if (const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, holder.pid, 0))); process)
            if (auto fd = if_it_is(inode, namespace_of_socket(process.get(), holder.socket)))
                return fd;
    return holder.mount.empty() ? UniqueFd() : if_it_is(inode, open_of_mount(holder.mount));
}

std::optional<std::uint32_t> user_behind_namespace(int netns)
{
    return maker_of_outermost(UniqueFd(::ioctl(netns, NS_GET_USERNS)));
}

std::uint32_t user_behind_process(std::uint32_t pid, std::uint32_t uid)
{
    UniqueFd users(::open(fmt::format("/proc/{}/ns/user", pid).c_str(), O_RDONLY | O_CLOEXEC));
    return maker_of_outermost(std::move(users)).value_or(uid);
}

} // namespace bulkhead::agent
