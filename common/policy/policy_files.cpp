// SPDX-License-Identifier: Apache-2.0
#include "common/core/unique_fd.h"
#include "common/policy/parse.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace bulkhead::policy {
namespace {

struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
};

tl::unexpected<Error> unreadable(const std::string& path, const std::string& why, std::string mend = {})
{
    return tl::unexpected<Error>(Error{ErrorKind::invalid, path + ": " + why, std::move(mend)});
}

tl::unexpected<Error> unreadable(const std::string& path, int error_number)
{
    return unreadable(path, std::generic_category().message(error_number));
}

Result<std::string> read_text(const std::string& path)
{
    // Non-blocking, so that a FIFO without a writer cannot hold us.
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (!fd)
        return unreadable(path, errno);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0)
        return unreadable(path, errno);
    if (!S_ISREG(status.st_mode))
        return unreadable(path, S_ISDIR(status.st_mode) ? "is a folder" : "is not a regular file",
                          "policies are regular files named *.yaml or *.yml");
    std::string text;
    std::string block(1U << 16, '\0');
    while (text.size() <= max_file_bytes) { // not st_size: the file may be growing
        const auto got = ::read(fd.get(), block.data(), block.size());
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return unreadable(path, errno);
        if (got == 0)
            return text;
        text.append(block, 0, static_cast<std::size_t>(got));
    }
    return unreadable(path, fmt::format("is larger than {} bytes", max_file_bytes), "split the file");
}

bool is_policy_name(std::string_view name)
{
    return !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"));
}

Result<std::vector<std::string>> files_of_folder(const std::string& path)
{
    const std::unique_ptr<DIR, CloseDirectory> folder(::opendir(path.c_str()));
    if (!folder)
        return unreadable(path, errno);
    std::vector<std::string> files;
    for (;;) {
        errno = 0;
        const auto* entry = ::readdir(folder.get());
        if (entry == nullptr)
            break;
        if (is_policy_name(entry->d_name))
            files.push_back(path + (path.ends_with('/') ? "" : "/") + entry->d_name);
    }
    if (errno != 0)
        return unreadable(path, errno);
    if (files.empty())
        return unreadable(path, "no policy files in this folder", "policies are files named *.yaml or *.yml");
    std::sort(files.begin(), files.end());
    return files;
}

Result<std::vector<std::string>> files_of(const std::string& path)
{
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0)
        return unreadable(path, errno);
    if (S_ISDIR(status.st_mode))
        return files_of_folder(path);
    return std::vector<std::string>{path};
}

void note(std::optional<Error>& all, Error error)
{
    if (!all) {
        all = std::move(error);
        return;
    }
    all->message += "\n" + error.message;
    if (all->mend.empty())
        all->mend = std::move(error.mend);
}

} // namespace

Result<std::vector<SourceFile>> read_policy_files(std::span<const std::string> paths)
{
    std::vector<SourceFile> sources;
    std::optional<Error> wrong; // every path that cannot be read is named, not only the first
    std::size_t total = 0;
    if (paths.empty())
        return tl::unexpected<Error>(Error{ErrorKind::invalid, "no policy files", "name files or a folder"});
    for (const auto& path : paths) {
        auto files = files_of(path);
        if (!files) {
            note(wrong, std::move(files).error());
            continue;
        }
        for (auto& file : *files) {
            auto text = read_text(file);
            if (!text) {
                note(wrong, std::move(text).error());
                continue;
            }
            total += text->size();
            if (total > max_total_bytes)
                return unreadable(file, fmt::format("all files together have over {} bytes", max_total_bytes));
            sources.push_back({std::move(file), std::move(*text)});
        }
    }
    if (wrong)
        return tl::unexpected<Error>(std::move(*wrong));
    return sources;
}

} // namespace bulkhead::policy
