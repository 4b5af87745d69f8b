// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/mounts.h"

#include "agent/enrich/file_identity.h"

#include <fmt/format.h>

#include <cstdio>

namespace bulkhead::agent {

std::optional<Mount> parse_mount(const std::string& line)
{
    // "36 35 98:0 /mnt1 /mnt2 ...": mount id, parent id, major:minor, root in the file system, mount point.
    Mount mount;
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    int begin = 0;
    if (std::sscanf(line.c_str(), "%lu %*u %u:%u %*s %n", &mount.id, &major, &minor, &begin) != 3 || begin == 0)
        return std::nullopt;
    mount.device = kernel_device(major, minor);
    mount.point = std::string_view(line).substr(static_cast<std::size_t>(begin));
    mount.point = mount.point.substr(0, mount.point.find(' '));
    return mount;
}

std::string as_in_mountinfo(std::string_view path)
{
    std::string escaped;
    for (const char c : path)
        if (c == ' ' || c == '\t' || c == '\n' || c == '\\')
            escaped += fmt::format("\\{:03o}", static_cast<unsigned>(c));
        else
            escaped += c;
    return escaped;
}

bool is_at_or_below(std::string_view path, std::string_view top)
{
    return top == "/" || (path.starts_with(top) && (path.size() == top.size() || path[top.size()] == '/'));
}

} // namespace bulkhead::agent
