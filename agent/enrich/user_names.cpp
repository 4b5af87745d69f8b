// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/user_names.h"

#include <pwd.h>
#include <sys/stat.h>

#include <array>
#include <charconv>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_kept = 4096;
constexpr auto keep_for = std::chrono::seconds(60);

std::int64_t passwd_changed()
{
    struct stat file {};
    if (::stat("/etc/passwd", &file) != 0)
        return 0;
    return file.st_mtim.tv_sec * 1'000'000'000 + file.st_mtim.tv_nsec;
}

} // namespace

void UserNames::forget_when_stale()
{
    const auto now = clock_.monotonic();
    const auto changed = passwd_changed();
    if (filled_ && now - *filled_ < keep_for && changed == passwd_changed_ns_ && names_.size() < max_kept &&
        uids_.size() < max_kept)
        return;
    names_.clear();
    uids_.clear();
    filled_ = now;
    passwd_changed_ns_ = changed;
}

std::string UserNames::name_of(std::uint32_t uid)
{
    forget_when_stale();
    if (const auto known = names_.find(uid); known != names_.end())
        return known->second;
    std::array<char, 16384> strings{};
    passwd entry{};
    passwd* found = nullptr;
    const bool has = ::getpwuid_r(uid, &entry, strings.data(), strings.size(), &found) == 0 && found != nullptr;
    return names_.emplace(uid, has ? entry.pw_name : "").first->second;
}

std::optional<std::uint32_t> UserNames::uid_of(const std::string& user)
{
    std::uint32_t number = 0;
    const auto* const user_end = user.data() + user.size();
    if (const auto [end, code] = std::from_chars(user.data(), user_end, number); code == std::errc{} && end == user_end)
        return number;
    forget_when_stale();
    if (const auto known = uids_.find(user); known != uids_.end())
        return known->second;
    std::array<char, 16384> strings{};
    passwd entry{};
    passwd* found = nullptr;
    const bool has =
        ::getpwnam_r(user.c_str(), &entry, strings.data(), strings.size(), &found) == 0 && found != nullptr;
    return uids_.emplace(user, has ? std::optional<std::uint32_t>(entry.pw_uid) : std::nullopt).first->second;
}

} // namespace bulkhead::agent
