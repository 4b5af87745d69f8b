// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/namespace_sweep.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <string_view>

namespace bulkhead::agent {

void NamespaceSweep::go_on(Slice& slice)
{
    if (!under_way_)
        begin();
    while (slice.take())
        if (!step()) {
            end();
            return;
        }
}

std::map<std::uint32_t, NamespaceHolder> NamespaceSweep::found() const
{
    std::map<std::uint32_t, NamespaceHolder> all;
    for (const auto& [inode, seen] : seen_)
        all.emplace_hint(all.end(), inode, seen.holder);
    return all;
}

void NamespaceSweep::begin()
{
    under_way_ = true;
    ++sweep_;
    path_ = cgroup_;
    enter(path_);
}

void NamespaceSweep::end()
{
    under_way_ = false;
    std::erase_if(seen_, [this](const auto& one) { return one.second.sweep != sweep_; });
}

void NamespaceSweep::enter(const std::string& folder)
{
    folder_.reset(::opendir(folder.c_str())); // which may be gone
    processes_ = std::ifstream(folder + "/cgroup.procs");
}

// A process, a folder's entry, or the next folder; false: that was all. Only one folder is open at a time, however deep
// the tree is.
bool NamespaceSweep::step()
{
    if (int pid = 0; processes_.is_open() && processes_ >> pid) {
        look_at(pid);
        return true;
    }
    processes_.close();
    if (const dirent* entry = folder_ ? ::readdir(folder_.get()) : nullptr) {
        const std::string_view name = entry->d_name;
        if (entry->d_type == DT_DIR && name != "." && name != "..")
            waiting_.push_back({path_.size(), std::string(name)});
        return true;
    }
    folder_.reset();
    if (waiting_.empty())
        return false;
    path_.resize(waiting_.back().parent);
    path_ += '/' + waiting_.back().name;
    waiting_.pop_back();
    enter(path_);
    return true;
}

void NamespaceSweep::look_at(int pid)
{
    struct stat status {};
    if (::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &status) != 0)
        return;
    auto& seen = seen_[static_cast<std::uint32_t>(status.st_ino)];
    if (seen.sweep != sweep_)
        seen = {{pid, pid}, sweep_};
}

} // namespace bulkhead::agent
