// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/in_namespace.h"

#include <sched.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>
#include <thread>

namespace bulkhead::agent {

namespace {

constexpr const char* own_namespace = "/proc/thread-self/ns/net";

bool same_namespace(int netns)
{
    struct stat here {
    }, there{};
    return ::stat(own_namespace, &here) == 0 && ::fstat(netns, &there) == 0 && here.st_ino == there.st_ino;
}

} // namespace

Status in_namespace(int netns, const std::function<Status()>& work)
{
    if (same_namespace(netns))
        return work();
    Status done;
    try {
        std::thread([&] {
            if (::setns(netns, CLONE_NEWNET) != 0)
                done = fail_errno(errno, "enter the network namespace");
            else
                done = work();
        }).join();
    } catch (const std::system_error& error) {
        return fail(ErrorKind::failed, "start a thread for a network namespace: {}", error.code().message());
    }
    return done;
}

std::uint32_t namespace_inode(int netns)
{
    struct stat status {};
    return ::fstat(netns, &status) == 0 ? static_cast<std::uint32_t>(status.st_ino) : 0;
}

} // namespace bulkhead::agent
