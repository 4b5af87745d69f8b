// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/spool.h"

#include "agent/spool/spool_log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t min_segment_bytes = 1024;
constexpr std::uint64_t max_segment_bytes = 64ULL << 20;

Status make_dir(const std::string& path)
{
    const auto parent = std::filesystem::path(path).parent_path();
    std::error_code error;
    if (!parent.empty())
        std::filesystem::create_directories(parent, error);
    if (error)
        return fail(ErrorKind::failed, "spool: create {}: {}", parent.string(), error.message());
    if (::mkdir(path.c_str(), 0700) == 0)
        return {};
    if (errno != EEXIST)
        return fail_errno(errno, "spool: create " + path);
    if (std::filesystem::is_directory(path, error) || error)
        return {};
    // Something else in its place: kept, but not in the way.
    if (::rename(path.c_str(), (path + ".damaged").c_str()) != 0 || ::mkdir(path.c_str(), 0700) != 0)
        return fail_errno(errno, "spool: put a folder in the place of " + path);
    return {};
}

Result<UniqueFd> take_lock(FileOperations& files, const std::string& dir)
{
    BULKHEAD_TRY(auto fd, files.open(dir + "/lock", O_RDWR | O_CREAT));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return tl::unexpected<Error>(Error{ErrorKind::failed,
                                               fmt::format("spool: {} is in use by another agent", dir),
                                               "give each agent its own --state-dir"});
        return fail_errno(errno, "spool: lock " + dir);
    }
    return fd;
}

// At least four segments, so that dropping one does not drop most of what is held.
SpoolOptions bounded(SpoolOptions options)
{
    options.max_bytes = std::max(options.max_bytes, 4 * min_segment_bytes);
    options.segment_bytes =
        std::clamp(std::min(options.segment_bytes, options.max_bytes / 4), min_segment_bytes, max_segment_bytes);
    return options;
}

} // namespace

Result<std::unique_ptr<Spool>> open_spool(const SpoolOptions& options)
{
    return open_spool(options, system_files());
}

Result<std::unique_ptr<Spool>> open_spool(const SpoolOptions& options, FileOperations& files)
{
    BULKHEAD_CHECK(make_dir(options.dir));
    BULKHEAD_TRY(auto lock, take_lock(files, options.dir));
    BULKHEAD_TRY(auto dir, files.open(options.dir, O_RDONLY | O_DIRECTORY));
    BULKHEAD_TRY(auto state, StateFile::open(files, options.dir + "/state"));
    BULKHEAD_TRY(auto recovered, recover(files, options.dir, state.state()));
    return std::make_unique<SpoolLog>(files, bounded(options), std::move(lock), std::move(dir), std::move(state),
                                      std::move(recovered));
}

} // namespace bulkhead::agent
