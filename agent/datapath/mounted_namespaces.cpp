// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/mounted_namespaces.h"

#include "agent/datapath/mountinfo.h"

#include <fcntl.h>
#include <poll.h>

#include <charconv>
#include <fstream>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

namespace bulkhead::agent {

namespace {

std::optional<std::uint32_t> network_namespace_of(const MountedFileSystem& mounted)
{
    constexpr std::string_view before = "net:[";
    std::uint32_t inode = 0;
    if (mounted.type != "nsfs" || !mounted.root.starts_with(before))
        return std::nullopt;
    const char* const end = mounted.root.data() + mounted.root.size();
    const auto [rest, error] = std::from_chars(mounted.root.data() + before.size(), end, inode);
    return error == std::errc() && rest != end && *rest == ']' ? std::optional(inode) : std::nullopt;
}

} // namespace

MountedNamespaces::MountedNamespaces(std::string mountinfo)
    : mountinfo_(std::move(mountinfo)), changes_(::open(mountinfo_.c_str(), O_RDONLY | O_CLOEXEC))
{
    read();
}

const std::map<std::uint32_t, std::string>& MountedNamespaces::now()
{
    if (has_changed())
        read();
    return places_;
}

// proc_pid_mounts(5): priority data since the last poll(2) means that something was mounted or unmounted. Where that
// cannot be asked, every time is the first.
bool MountedNamespaces::has_changed()
{
    pollfd asked{changes_.get(), POLLPRI, 0};
    return !read_ || !changes_ || ::poll(&asked, 1, 0) != 0;
}

void MountedNamespaces::read()
{
    places_.clear();
    std::ifstream lines(mountinfo_);
    read_ = lines.is_open();
    for (std::string line; std::getline(lines, line);)
        if (const auto mounted = parse_mountinfo(line))
            if (const auto inode = network_namespace_of(*mounted))
                places_.emplace(*inode, mounted->point);
}

} // namespace bulkhead::agent
