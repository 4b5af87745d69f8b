// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/digestion.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <thread>

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t bytes_in_turn = 4ULL << 20;
constexpr std::size_t bytes_at_once = 1U << 17;
constexpr std::int64_t second_ns = 1'000'000'000;
// Two changes within a tick of the kernel's clock have one time stamp; where a file system keeps seconds, within one.
constexpr std::int64_t tick_ns = second_ns / 50, coarse_tick_ns = 2 * second_ns;

std::uint32_t file_system_of(int file)
{
    struct statfs system {};
    return ::fstatfs(file, &system) == 0 ? static_cast<std::uint32_t>(system.f_type) : 0;
}

// These refuse leases for reasons of their own, too: where the server has given no delegation, or oplock.
bool is_of_a_server(int file)
{
    const auto type = file_system_of(file);
    return type == NFS_SUPER_MAGIC || type == 0xff534d42U || type == 0xfe534d42U; // and those of fs/smb/client
}

// That somebody has the file open for writing, or mapped, as far as its file system says.
bool is_being_written(int file)
{
    // For who opens it for writing in between; ignored, unlike SIGIO.
    (void)::fcntl(file, F_SETSIG, SIGURG);
    if (::fcntl(file, F_SETLEASE, F_RDLCK) != 0)
        return errno == EAGAIN && !is_of_a_server(file);
    (void)::fcntl(file, F_SETLEASE, F_UNLCK);
    return false;
}

std::int64_t age_ns(const FileIdentity& file)
{
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    return now.tv_sec * second_ns + now.tv_nsec - file.changed_ns;
}

} // namespace

Digestion::Digestion(const FileIdentity& file, const DigestWay& way)
    : file_(file), hash_(::EVP_MD_CTX_new(), ::EVP_MD_CTX_free), buffer_(bytes_at_once), left_(file.size + 1)
{
    failed_ = !hash_ || ::EVP_DigestInit_ex(hash_.get(), ::EVP_sha256(), nullptr) != 1 || !open(way) || !is_settled() ||
              is_being_written(fd_.get());
    // An overlay does not know who has mapped its file: that is another one. What has been written out changes a time
    // stamp when it is written to again.
    if (!failed_ && file_system_of(fd_.get()) == OVERLAYFS_SUPER_MAGIC)
        (void)::fdatasync(fd_.get());
}

bool Digestion::open(const DigestWay& way)
{
    // What a process runs is behind such a link, which leads to the file itself: nobody is asked on the way.
    const UniqueFd place =
        way.path.starts_with("/proc/") ? UniqueFd(::open(way.path.c_str(), O_PATH | O_CLOEXEC)) : open_place(way.path);
    // A process may run another program by now, one whose file system would be asked, and answers when it likes.
    const auto shown = place ? show_file(place.get(), "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC) : std::nullopt;
    if (!shown || !S_ISREG(shown->file.mode) || identify_file(*shown, way.mountinfo) != file_)
        return false;
    fd_ = UniqueFd(::open(fmt::format("/proc/self/fd/{}", place.get()).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    const auto opened = fd_ ? show_file(fd_.get(), "", AT_EMPTY_PATH) : std::nullopt;
    shown_ = shown->file;
    return opened && opened->file == shown_;
}

// That a change from now on will show in ctime.
bool Digestion::is_settled() const
{
    const auto age = age_ns(file_);
    if (age < -tick_ns) // by another clock, that of a server
        return true;
    if (file_.changed_ns % second_ns == 0)
        return age > coarse_tick_ns;
    if (age <= tick_ns)
        std::this_thread::sleep_for(std::chrono::nanoseconds(tick_ns));
    return true;
}

bool Digestion::read_on(const std::atomic<bool>& stop)
{
    for (std::uint64_t in_turn = 0; !failed_ && in_turn < bytes_in_turn && !stop;) {
        const auto got = ::read(fd_.get(), buffer_.data(), std::min<std::uint64_t>(buffer_.size(), left_));
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            return true;
        if (got > 0) {
            in_turn += static_cast<std::uint64_t>(got);
            left_ -= static_cast<std::uint64_t>(got);
        }
        failed_ = got < 0 || left_ == 0 ||
                  ::EVP_DigestUpdate(hash_.get(), buffer_.data(), static_cast<std::size_t>(got)) != 1;
    }
    return failed_;
}

std::optional<std::string> Digestion::digest()
{
    std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
    unsigned length = 0;
    if (failed_ || is_being_written(fd_.get()))
        return std::nullopt;
    const auto shown = show_file(fd_.get(), "", AT_EMPTY_PATH);
    if (!shown || shown->file != shown_ || ::EVP_DigestFinal_ex(hash_.get(), bytes.data(), &length) != 1)
        return std::nullopt;
    std::string hex;
    for (unsigned i = 0; i < length; ++i)
        hex += fmt::format("{:02x}", bytes[i]);
    return hex;
}

} // namespace bulkhead::agent
