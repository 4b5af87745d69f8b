// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/folder_watch.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

// A file that is being written is of no interest until it is closed; IN_CREATE is there for links (`ln -s`).
constexpr std::uint32_t interesting = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB |
                                      IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

// Editors' swap and lock files come and go without the policy changing; "..data" is how Kubernetes swaps mounted files.
bool is_policy_name(std::string_view name)
{
    const auto ends_with = [&](std::string_view suffix) { return name.ends_with(suffix); };
    return name.empty() || ends_with(".yaml") || ends_with(".yml") || name == "..data";
}

} // namespace

Result<FolderWatch> FolderWatch::create(std::string folder)
{
    UniqueFd inotify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
    if (!inotify)
        return fail_errno(errno, "inotify_init1");
    FolderWatch watch(std::move(folder), std::move(inotify));
    watch.check_folder();
    return watch;
}

bool FolderWatch::read_events()
{
    bool changed = false;
    std::array<char, 16384> buffer{};
    for (;;) {
        const auto count = ::read(inotify_.get(), buffer.data(), buffer.size());
        if (count <= 0)
            return changed;
        for (std::size_t at = 0; at + sizeof(inotify_event) <= static_cast<std::size_t>(count);) {
            inotify_event event{};
            std::memcpy(&event, buffer.data() + at, sizeof event);
            const char* const name = buffer.data() + at + sizeof event;
            if ((event.mask & IN_IGNORED) == 0 && is_policy_name({name, ::strnlen(name, event.len)}))
                changed = true;
            at += sizeof event + event.len;
        }
    }
}

bool FolderWatch::check_folder()
{
    struct stat now {};
    if (::stat(folder_.c_str(), &now) != 0 || !S_ISDIR(now.st_mode)) {
        const bool was_there = inode_ != 0;
        inode_ = 0;
        return was_there;
    }
    if (now.st_dev == device_ && now.st_ino == inode_)
        return false;
    if (watch_ >= 0)
        ::inotify_rm_watch(inotify_.get(), watch_); // an error means that the kernel has dropped it with the folder
    watch_ = ::inotify_add_watch(inotify_.get(), folder_.c_str(), interesting);
    if (watch_ < 0)
        return false; // gone again, or no watch to be had: asked again in a second
    device_ = now.st_dev;
    inode_ = now.st_ino;
    return true;
}

} // namespace bulkhead::agent
