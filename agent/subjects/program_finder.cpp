// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/program_finder.h"

#include "agent/enrich/file_identity.h"
#include "common/policy/glob.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string_view>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_folders = 4096;
constexpr std::size_t max_entries = 200'000;
constexpr std::size_t max_paths = 8192;
constexpr auto max_time = std::chrono::seconds(1);
constexpr auto retry_incomplete = std::chrono::seconds(15);
constexpr auto settled_after = std::chrono::seconds(2); // coarser than any file system's time stamps

bool is_literal(std::string_view component)
{
    return component.find_first_of("*?[\\") == std::string_view::npos;
}

struct Entry {
    std::string name;
    unsigned char type = DT_UNKNOWN;
};

bool is_folder(const std::string& path, bool follow)
{
    struct stat status {};
    const auto place = open_place(path, follow ? O_PATH : O_PATH | O_NOFOLLOW);
    return place && ::fstat(place.get(), &status) == 0 && S_ISDIR(status.st_mode);
}

DIR* open_folder(const std::string& path)
{
    UniqueFd folder = open_place(path, O_RDONLY | O_DIRECTORY);
    return folder ? ::fdopendir(folder.release()) : nullptr;
}

} // namespace

// One expansion of one pattern.
class ProgramFinder::Search {
public:
    Search(const Clock& clock, std::string pattern, Expansion& into)
        : clock_(clock), pattern_(std::move(pattern)), into_(into), wall_(clock.wall())
    {}

    void run()
    {
        if (pattern_.starts_with('/'))
            expand("", pattern_);
        into_.found.paths.assign(paths_.begin(), paths_.end());
    }

private:
    // `folder` matches the pattern up to `rest`, which begins with '/'.
    void expand(const std::string& folder, std::string_view rest)
    {
        rest.remove_prefix(1);
        const auto component = rest.substr(0, rest.find('/'));
        const bool last = component.size() == rest.size();
        if (component.find("**") != std::string_view::npos) {
            descend(folder);
        } else if (is_literal(component)) {
            const auto path = folder + "/" + std::string(component);
            last ? add(path) : expand(path, rest.substr(component.size()));
        } else {
            for (const auto& entry : read(folder)) {
                if (!policy::glob_matches(component, entry.name))
                    continue;
                const auto path = folder + "/" + entry.name;
                if (last)
                    add(path);
                else if (entry.type == DT_DIR || (entry.type != DT_REG && is_folder(path, true)))
                    expand(path, rest.substr(component.size()));
            }
        }
    }

    void descend(const std::string& top)
    {
        std::vector<std::string> waiting{top};
        while (!waiting.empty() && into_.found.complete) {
            const auto folder = std::move(waiting.back());
            waiting.pop_back();
            for (const auto& entry : read(folder)) {
                auto path = folder + "/" + entry.name;
                if (path == "/proc" || path == "/sys" || path == "/dev") // endless, and no programs in them
                    continue;
                if (entry.type == DT_DIR || (entry.type == DT_UNKNOWN && is_folder(path, false)))
                    waiting.push_back(std::move(path));
                else if (policy::glob_matches(pattern_, path))
                    add(path);
            }
        }
    }

    void add(const std::string& path)
    {
        if (paths_.size() >= max_paths)
            into_.found.complete = false;
        else if (policy::glob_matches(pattern_, path))
            paths_.insert(path);
    }

    std::vector<Entry> read(const std::string& folder)
    {
        std::vector<Entry> entries;
        if (into_.folders.size() >= max_folders || clock_.monotonic() - into_.at > max_time)
            into_.found.complete = false;
        if (!into_.found.complete)
            return entries;
        const auto path = folder.empty() ? "/" : folder;
        into_.folders.push_back(look_at(path, wall_)); // before it is read, so a change meanwhile shows
        const std::unique_ptr<DIR, int (*)(DIR*)> open(open_folder(path), ::closedir);
        while (const auto* entry = open ? ::readdir(open.get()) : nullptr) {
            const std::string_view name = entry->d_name;
            if (name == "." || name == "..")
                continue;
            if (++entries_read_ > max_entries) {
                into_.found.complete = false;
                break;
            }
            entries.push_back({std::string(name), entry->d_type});
        }
        return entries;
    }

    const Clock& clock_;
    std::string pattern_;
    Expansion& into_;
    WallTime wall_;
    std::set<std::string> paths_;
    std::size_t entries_read_ = 0;
};

ProgramFinder::Folder ProgramFinder::look_at(const std::string& path, WallTime now)
{
    Folder folder;
    folder.path = path;
    struct stat status {};
    const auto place = open_place(path);
    if (!place || ::fstat(place.get(), &status) != 0) {
        folder.settled = true; // when it comes, it has an inode
        return folder;
    }
    folder.device = status.st_dev;
    folder.inode = status.st_ino;
    folder.changed_ns = status.st_ctim.tv_sec * 1'000'000'000 + status.st_ctim.tv_nsec;
    folder.settled = now.time_since_epoch() - std::chrono::nanoseconds(folder.changed_ns) > settled_after;
    return folder;
}

bool ProgramFinder::is_fresh(const Expansion& expansion) const
{
    if (!expansion.found.complete)
        return clock_.monotonic() - expansion.at < retry_incomplete;
    return std::all_of(expansion.folders.begin(), expansion.folders.end(), [this](const Folder& folder) {
        const auto now = look_at(folder.path, clock_.wall());
        return folder.settled && now.device == folder.device && now.inode == folder.inode &&
               now.changed_ns == folder.changed_ns;
    });
}

const ProgramFinder::Found& ProgramFinder::find(const std::string& pattern)
{
    const auto known = expansions_.find(pattern);
    if (known != expansions_.end() && is_fresh(known->second))
        return known->second.found;
    Expansion expansion;
    expansion.at = clock_.monotonic();
    Search(clock_, pattern, expansion).run();
    return (expansions_[pattern] = std::move(expansion)).found;
}

void ProgramFinder::keep_only(const std::vector<std::string>& patterns)
{
    std::erase_if(expansions_, [&patterns](const auto& entry) {
        return std::find(patterns.begin(), patterns.end(), entry.first) == patterns.end();
    });
}

} // namespace bulkhead::agent
