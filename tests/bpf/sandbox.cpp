// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/sandbox.h"

#include "agent/datapath/datapath.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>

namespace bulkhead::test {

namespace {

[[noreturn]] void throw_errno(const std::string& what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

UniqueFd open_own_netns()
{
    UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!fd)
        throw_errno("open the network namespace");
    return fd;
}

void enter(int netns)
{
    if (::setns(netns, CLONE_NEWNET) != 0)
        throw_errno("enter a network namespace");
}

void move_process(const std::string& cgroup, const std::string& pid)
{
    std::ofstream procs(cgroup + "/cgroup.procs");
    procs << pid << std::flush;
    if (!procs)
        throw_errno("move a process to " + cgroup);
}

std::string own_cgroup()
{
    std::ifstream lines("/proc/self/cgroup");
    std::string line;
    while (std::getline(lines, line))
        if (line.starts_with("0::"))
            return agent::find_cgroup2_root().value() + line.substr(3);
    throw std::runtime_error("no cgroup v2 membership in /proc/self/cgroup");
}

struct stat status_of(int fd)
{
    struct stat status {};
    if (::fstat(fd, &status) != 0)
        throw_errno("stat");
    return status;
}

} // namespace

Cgroup::Cgroup(const std::string& path) : path_(path)
{
    if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST)
        throw_errno("make " + path);
}

Cgroup::~Cgroup()
{
    std::ifstream procs(path_ + "/cgroup.procs");
    std::string pid;
    while (std::getline(procs, pid)) {
        std::ofstream root(agent::find_cgroup2_root().value_or("/sys/fs/cgroup") + "/cgroup.procs");
        root << pid << std::flush;
    }
    (void)::rmdir(path_.c_str());
}

std::uint64_t Cgroup::id() const
{
    struct stat status {};
    if (::stat(path_.c_str(), &status) != 0)
        throw_errno("stat " + path_);
    return status.st_ino;
}

Netns::Netns()
{
    const UniqueFd home = open_own_netns();
    if (::unshare(CLONE_NEWNET) != 0)
        throw_errno("make a network namespace");
    fd_ = open_own_netns();
    enter(home.get());
}

std::uint32_t Netns::inode() const
{
    return static_cast<std::uint32_t>(status_of(fd()).st_ino);
}

void run_in(const Netns& netns, const Cgroup& cgroup, const std::function<void()>& work)
{
    struct Home {
        UniqueFd netns = open_own_netns();
        std::string cgroup = own_cgroup();
        ~Home()
        {
            enter(netns.get());
            move_process(cgroup, std::to_string(::getpid()));
        }
    };
    const Home home;
    enter(netns.fd());
    move_process(cgroup.path(), std::to_string(::getpid()));
    work();
}

void as_user(uid_t user, const std::function<void()>& work)
{
    int error = 0;
    std::thread([&] {
        if (::syscall(SYS_setresuid, user, user, user) != 0)
            error = errno;
        else
            work();
    }).join();
    if (error != 0)
        throw std::system_error(error, std::generic_category(), "become another user");
}

void ip(const Netns& netns, const std::string& arguments)
{
    const std::string command =
        "nsenter --net=/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(netns.fd()) + " ip " + arguments;
    if (std::system(command.c_str()) != 0)
        throw std::runtime_error(command + ": failed");
}

Wire::Wire()
{
    const std::string other = "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(peer.fd());
    ip(guarded,
       "link add bh0 address 02:77:00:00:00:01 type veth peer name bh0 address 02:77:00:00:00:02 netns " + other);
    for (const Netns* netns : {&guarded, &peer})
        ip(*netns, "link set lo up");
    ip(guarded, "addr add 10.77.0.1/24 dev bh0");
    ip(guarded, "addr add fd77::1/64 dev bh0 nodad");
    for (const char* host : {"2", "3"}) {
        ip(peer, std::string("addr add 10.77.0.") + host + "/24 dev bh0");
        ip(peer, std::string("addr add fd77::") + host + "/64 dev bh0 nodad");
    }
    for (const Netns* netns : {&guarded, &peer})
        ip(*netns, "link set bh0 up");
    for (const char* host : {"10.77.0.2", "10.77.0.3", "fd77::2", "fd77::3"})
        ip(guarded, std::string("neigh replace ") + host + " lladdr 02:77:00:00:00:02 dev bh0 nud permanent");
    for (const char* host : {"10.77.0.1", "fd77::1"})
        ip(peer, std::string("neigh replace ") + host + " lladdr 02:77:00:00:00:01 dev bh0 nud permanent");
}

} // namespace bulkhead::test
