// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/claim.h"

#include "agent/datapath/datapath.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

namespace bulkhead::test {

namespace {

namespace fs = std::filesystem;

const std::string claims = "/run/bulkhead-test-dp"; // a file each
const std::string pin_root = "/sys/fs/bpf";

std::string cgroup_root()
{
    return agent::find_cgroup2_root().value_or("/sys/fs/cgroup");
}

// Cgroups go from the inside out; their files are not removed.
void remove_cgroup(const fs::path& path)
{
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(path, ignored))
        if (entry.is_directory(ignored))
            remove_cgroup(entry.path());
    (void)::rmdir(path.c_str());
}

// False: something of it is still in use, as a cgroup by a process that outlived its test.
bool remove_all_of(const std::string& name)
{
    std::error_code ignored;
    fs::remove_all(pin_root + "/" + name, ignored); // with the last reference, programs are detached
    std::vector<fs::path> cgroups;
    for (const auto& entry : fs::directory_iterator(cgroup_root(), ignored)) {
        const auto found = entry.path().filename().string();
        if (found == name || found.starts_with(name + "-"))
            cgroups.push_back(entry.path());
    }
    for (const auto& cgroup : cgroups)
        remove_cgroup(cgroup);
    return !fs::exists(pin_root + "/" + name, ignored) &&
           std::none_of(cgroups.begin(), cgroups.end(), [&](const fs::path& one) { return fs::exists(one, ignored); });
}

// Locked, and still the file of that name; else nothing, at once or when `wait` is over.
UniqueFd lock(const std::string& path, int flags, bool wait)
{
    UniqueFd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | flags, 0600));
    struct stat status {};
    if (!file || ::flock(file.get(), LOCK_EX | (wait ? 0 : LOCK_NB)) != 0 || ::fstat(file.get(), &status) != 0 ||
        status.st_nlink == 0)
        return {};
    return file;
}

} // namespace

void remove_leftovers()
{
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(claims, ignored)) {
        const auto abandoned = lock(entry.path(), 0, false);
        if (!abandoned)
            continue;
        if (remove_all_of(entry.path().filename().string())) // else the next tries again
            (void)::unlink(entry.path().c_str());
    }
}

Claim::Claim() : name_("bulkhead-test-dp-" + std::to_string(::getpid()))
{
    remove_leftovers();
    for (int i = 0; i < 100 && !lock_; ++i) { // another may remove the folder or the file before it is locked
        if (::mkdir(claims.c_str(), 0700) != 0 && errno != EEXIST)
            throw std::system_error(errno, std::generic_category(), "make " + claims);
        lock_ = lock(claims + "/" + name_, O_CREAT, true);
    }
    if (!lock_)
        throw std::runtime_error("cannot lock a file in " + claims);
}

Claim::~Claim()
{
    (void)::unlink((claims + "/" + name_).c_str());
    (void)::rmdir(claims.c_str()); // the last one
}

const Claim& Claim::of_this_process()
{
    static const Claim claim;
    return claim;
}

std::string Claim::cgroup() const
{
    return cgroup_root() + "/" + name_;
}

std::string Claim::pins() const
{
    return pin_root + "/" + name_;
}

} // namespace bulkhead::test
