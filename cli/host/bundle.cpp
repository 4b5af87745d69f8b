// SPDX-License-Identifier: Apache-2.0
#include "cli/host/bundle.h"

#include "cli/host/gzip.h"
#include "cli/host/tar.h"
#include "common/core/unique_fd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace bulkhead::cli {
namespace {

Status write_new(const std::string& path, std::string_view bytes)
{
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file && errno == EEXIST)
        return tl::unexpected(Error{ErrorKind::refused, path + " is there already", "name another file, or remove it"});
    if (!file)
        return fail_errno(errno, "create " + path);
    const auto give_up = [&](int error) {
        ::unlink(path.c_str());
        return fail_errno(error, "write " + path);
    };
    if (::fchmod(file.get(), 0600) != 0)
        return give_up(errno);
    while (!bytes.empty()) {
        const auto written = ::write(file.get(), bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return give_up(written < 0 ? errno : EIO);
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return ::fsync(file.get()) == 0 ? Status{} : give_up(errno);
}

void remove_secrets(Json& node)
{
    if (node.is_object())
        for (const auto& [key, value] : node.items())
            if (names_a_secret(key) && value.is_string())
                value = "[removed]";
            else
                remove_secrets(value);
    else if (node.is_array())
        for (auto& item : node)
            remove_secrets(item);
}

} // namespace

std::string bundle_folder(std::string host, std::int64_t unix_seconds)
{
    constexpr std::size_t longest = 48; // names in an archive have 99 bytes (tar.h)
    std::replace(host.begin(), host.end(), '/', '-');
    return fmt::format("bulkhead-support-{}-{}", host.substr(0, longest), unix_seconds);
}

void Bundle::add(const std::string& name, const Result<std::string>& content)
{
    if (content)
        files_.emplace_back(name, filter_.clean(*content));
    else
        missing_.push_back(filter_.clean(fmt::format("{}: {}", name, content.error().message)));
}

void Bundle::add_document(const std::string& name, Result<Json> document)
{
    if (!document)
        return add(name, tl::unexpected(document.error()));
    remove_secrets(*document);
    files_.emplace_back(name,
                        filter_.clean_known(document->dump(2, ' ', false, Json::error_handler_t::replace) + "\n"));
}

Status Bundle::write(const std::string& path, std::int64_t unix_seconds) const
{
    std::string manifest = "What is in here. No private keys, join tokens or records of flows are.\n\n";
    for (const auto& [name, content] : files_)
        manifest += fmt::format("{:>9} {}\n", content.size(), name);
    manifest += missing_.empty() ? "\nNothing is missing.\n" : "\nMissing:\n";
    for (const auto& line : missing_)
        manifest += line + "\n";
    Tar tar(unix_seconds);
    tar.add(folder_ + "/MANIFEST.txt", manifest);
    for (const auto& [name, content] : files_)
        tar.add(folder_ + "/" + name, content);
    BULKHEAD_TRY(const auto packed, gzip(std::move(tar).finish()));
    return write_new(path, packed);
}

} // namespace bulkhead::cli
