// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/namespace_finder.h"

#include "agent/datapath/in_namespace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <charconv>
#include <filesystem>
#include <fstream>

namespace bulkhead::agent {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t max_threads = 1024; // of one process, that are looked at
constexpr std::size_t max_files = 65536;

UniqueFd open_if(const std::string& path, std::uint32_t inode)
{
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return fd && namespace_inode(fd.get()) == inode ? std::move(fd) : UniqueFd();
}

UniqueFd open_by_thread(std::uint32_t inode, int pid)
{
    std::error_code error;
    std::size_t seen = 0;
    for (fs::directory_iterator it(fmt::format("/proc/{}/task", pid), error), end; it != end && !error;
         it.increment(error)) {
        if (++seen > max_threads)
            break;
        if (auto fd = open_if(it->path().string() + "/ns/net", inode))
            return fd;
    }
    return {};
}

// A socket stays in the namespace where it was made when those who hold it leave.
UniqueFd open_by_socket(std::uint32_t inode, int pid)
{
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!process)
        return {};
    std::error_code error;
    std::size_t seen = 0;
    for (fs::directory_iterator it(fmt::format("/proc/{}/fd", pid), error), end; it != end && !error;
         it.increment(error)) {
        if (++seen > max_files)
            break;
        std::error_code gone;
        const std::string name = it->path().filename().string();
        if (!fs::read_symlink(it->path(), gone).string().starts_with("socket:"))
            continue;
        int number = -1;
        std::from_chars(name.data(), name.data() + name.size(), number);
        const UniqueFd socket(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
        if (!socket)
            continue;
        UniqueFd found(::ioctl(socket.get(), SIOCGSKNS));
        if (found && namespace_inode(found.get()) == inode)
            return found;
    }
    return {};
}

void find_in(const std::string& folder, std::map<std::uint32_t, NamespaceHolder>& found)
{
    std::ifstream processes(folder + "/cgroup.procs");
    int pid = 0;
    while (processes >> pid) {
        struct stat status {};
        if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &status) == 0)
            found.try_emplace(static_cast<std::uint32_t>(status.st_ino), NamespaceHolder{pid, pid});
    }
}

} // namespace

std::map<std::uint32_t, NamespaceHolder> find_namespaces(const std::string& cgroup)
{
    std::map<std::uint32_t, NamespaceHolder> found;
    find_in(cgroup, found);
    std::error_code error;
    for (fs::recursive_directory_iterator it(cgroup, error), end; it != end && !error; it.increment(error)) {
        std::error_code gone;
        if (it->is_directory(gone))
            find_in(it->path().string(), found);
    }
    return found;
}

UniqueFd open_namespace(std::uint32_t inode, const NamespaceHolder& holder)
{
    if (holder.pid <= 0)
        return {};
    for (const int thread : {holder.tid, holder.pid})
        if (auto fd = thread > 0 ? open_if(fmt::format("/proc/{}/ns/net", thread), inode) : UniqueFd())
            return fd;
    if (auto fd = open_by_thread(inode, holder.pid))
        return fd;
    return open_by_socket(inode, holder.pid);
}

} // namespace bulkhead::agent
