// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/holder_search.h"

#include "agent/datapath/in_namespace.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

namespace bulkhead::agent {

namespace {

constexpr std::size_t part = 4096; // bytes of a folder that are read in one turn: some 150 entries

// Inode number of the namespace; 0: none, or gone.
std::uint32_t of_thread(int folder, const char* tid)
{
    struct stat status {};
    return ::fstatat(folder, fmt::format("{}/ns/net", tid).c_str(), &status, 0) == 0
               ? static_cast<std::uint32_t>(status.st_ino)
               : 0;
}

std::uint32_t of_descriptor(int folder, const char* name, int process, int number)
{
    constexpr std::string_view socket = "socket:";
    std::array<char, socket.size()> target{};
    const auto size = ::readlinkat(folder, name, target.data(), target.size());
    if (size < 0 || std::string_view(target.data(), static_cast<std::size_t>(size)) != socket)
        return 0;
    const UniqueFd netns = namespace_of_socket(process, number);
    return netns ? namespace_inode(netns.get()) : 0;
}

} // namespace

std::size_t HolderSearch::User::wanted() const
{
    std::size_t all = 0;
    for (const auto& process : processes)
        all += process.wanted.size() + process.next.size();
    return all;
}

bool HolderSearch::want(std::uint32_t inode, const NamespaceHolder& holder)
{
    auto user = std::find_if(users_.begin(), users_.end(), [&](const auto& one) { return one.uid == holder.user; });
    if (user == users_.end())
        user = users_.insert(users_.end(), User{holder.user, {}});
    auto& processes = user->processes;
    auto process =
        std::find_if(processes.begin(), processes.end(), [&](const auto& one) { return one.pid == holder.pid; });
    if (process != processes.end() && (process->wanted.contains(inode) || process->next.contains(inode)))
        return true;
    if (user->wanted() >= at_once)
        return false;
    if (process == processes.end())
        process = processes.insert(processes.end(), Process{holder.pid, {}, {}, false, 0});
    const bool begun = process->in_sockets || process->position != 0;
    (begun ? process->next : process->wanted).insert(inode);
    return true;
}

void HolderSearch::go_on(Slice& slice, const Found& found)
{
    while (!users_.empty() && slice.take()) {
        User user = std::move(users_.front());
        users_.pop_front();
        Process process = std::move(user.processes.front());
        user.processes.pop_front();
        if (turn(process, slice, found))
            user.processes.push_back(std::move(process));
        if (!user.processes.empty())
            users_.push_back(std::move(user));
    }
}

// Opened anew for each turn, at the place where the last one ended: processes in number would take descriptors of ours.
bool HolderSearch::turn(Process& process, Slice& slice, const Found& found)
{
    const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
    const auto path = fmt::format("/proc/{}/{}", process.pid, process.in_sockets ? "fd" : "task");
    const UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!pidfd || !folder || ::lseek(folder.get(), process.position, SEEK_SET) < 0)
        return false; // it is gone, and what it held is found by whoever holds it now
    alignas(dirent64) std::array<char, part> entries{};
    const auto size = ::getdents64(folder.get(), entries.data(), entries.size());
    if (size <= 0)
        return folder_ended(process);
    for (std::size_t at = 0; at < static_cast<std::size_t>(size);) {
        const auto* entry = reinterpret_cast<const dirent64*>(entries.data() + at);
        at += entry->d_reclen;
        int number = 0;
        const char* end = entry->d_name + std::strlen(entry->d_name);
        const bool is_number = std::from_chars(entry->d_name, end, number).ptr == end;
        if (is_number && !slice.take())
            return true;
        process.position = entry->d_off;
        if (!is_number)
            continue;
        const std::uint32_t inode = process.in_sockets ? of_descriptor(folder.get(), entry->d_name, pidfd.get(), number)
                                                       : of_thread(folder.get(), entry->d_name);
        if (process.wanted.erase(inode) == 0)
            continue;
        NamespaceHolder holder;
        holder.pid = process.pid;
        (process.in_sockets ? holder.socket : holder.tid) = number;
        found(inode, holder);
        if (process.wanted.empty() && process.next.empty())
            return false;
    }
    return true;
}

bool HolderSearch::folder_ended(Process& process)
{
    process.position = 0;
    process.in_sockets = !process.in_sockets;
    if (process.in_sockets)
        return true;
    process.wanted = std::exchange(process.next, {}); // what was not found is told of again
    return !process.wanted.empty();
}

} // namespace bulkhead::agent
