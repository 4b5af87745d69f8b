// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/mountinfo.h"

#include <sstream>
#include <string_view>

namespace bulkhead::agent {

namespace {

bool is_octal(char c)
{
    return c >= '0' && c <= '7';
}

// \ooo is how the kernel writes space, tab, newline and backslash.
std::string unescaped(std::string_view written)
{
    std::string text;
    for (std::size_t i = 0; i < written.size(); ++i) {
        const auto digits = written.substr(i + 1, 3); // i + 1 is the end at most
        if (written[i] == '\\' && digits.size() == 3 && is_octal(digits[0]) && is_octal(digits[1]) &&
            is_octal(digits[2])) {
            text += static_cast<char>((digits[0] - '0') << 6 | (digits[1] - '0') << 3 | (digits[2] - '0'));
            i += digits.size();
        } else {
            text += written[i];
        }
    }
    return text;
}

} // namespace

// "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": mount id, parent id, major:minor,
// root, mount point, options, optional fields, "-", type.
std::optional<MountedFileSystem> parse_mountinfo(const std::string& line)
{
    const auto separator = line.find(" - ");
    if (separator == std::string::npos)
        return std::nullopt;
    std::istringstream before(line.substr(0, separator)), after(line.substr(separator + 3));
    std::string id, parent, device, root, point, type;
    if (!(before >> id >> parent >> device >> root >> point) || !(after >> type))
        return std::nullopt;
    return MountedFileSystem{type, unescaped(root), unescaped(point)};
}

} // namespace bulkhead::agent
