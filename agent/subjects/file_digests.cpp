// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/file_digests.h"

#include "common/core/unique_fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <vector>

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t max_bytes = 1ULL << 30;
constexpr int kept_unused = 4; // calls of forget_unused()

// Of a file of this size. What lies at `path` may be another one by now, which its owner chose: a FIFO, or a longer
// one.
std::optional<std::string> sha256_of(const std::string& path, std::uint64_t size)
{
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    struct stat status {};
    if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
        static_cast<std::uint64_t>(status.st_size) != size)
        return std::nullopt;
    const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> hash(::EVP_MD_CTX_new(), ::EVP_MD_CTX_free);
    if (!hash || ::EVP_DigestInit_ex(hash.get(), ::EVP_sha256(), nullptr) != 1)
        return std::nullopt;
    std::vector<char> buffer(1U << 17);
    for (std::uint64_t left = size + 1;;) {
        const auto got = ::read(file.get(), buffer.data(), std::min<std::uint64_t>(buffer.size(), left));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return std::nullopt;
        if (got == 0)
            break;
        left -= static_cast<std::uint64_t>(got);
        if (left == 0)
            return std::nullopt;
        if (::EVP_DigestUpdate(hash.get(), buffer.data(), static_cast<std::size_t>(got)) != 1)
            return std::nullopt;
    }
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned length = 0;
    if (::EVP_DigestFinal_ex(hash.get(), digest.data(), &length) != 1)
        return std::nullopt;
    std::string hex;
    for (unsigned i = 0; i < length; ++i)
        hex += fmt::format("{:02x}", digest[i]);
    return hex;
}

} // namespace

std::optional<std::string> FileDigests::of(const FileIdentity& file, const std::string& path,
                                           const std::string& mountinfo)
{
    if (const auto known = known_.find(file); known != known_.end()) {
        known->second.unused_for = 0;
        return known->second.digest;
    }
    if (file.size > max_bytes)
        return std::nullopt;
    auto digest = sha256_of(path, file.size);
    if (!digest || identify_file(path, mountinfo) != file)
        return std::nullopt;
    return known_.emplace(file, Known{std::move(*digest)}).first->second.digest;
}

void FileDigests::forget_unused()
{
    for (auto& [file, known] : known_)
        ++known.unused_for;
    std::erase_if(known_, [](const auto& entry) { return entry.second.unused_for > kept_unused; });
}

} // namespace bulkhead::agent
