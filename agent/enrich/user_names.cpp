// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/user_names.h"

#include <pwd.h>
#include <sys/stat.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <memory>
#include <utility>

namespace bulkhead::agent {
namespace {

using Strings = std::array<char, 16384>;

std::optional<std::string> ask_for_name(std::uint32_t uid)
{
    Strings strings{};
    passwd entry{};
    passwd* found = nullptr;
    // glibc returns no error where nobody has it, but where a service could not be asked.
    if (::getpwuid_r(uid, &entry, strings.data(), strings.size(), &found) != 0)
        return std::nullopt;
    return found != nullptr ? found->pw_name : "";
}

std::optional<std::optional<std::uint32_t>> ask_for_uid(const std::string& user)
{
    Strings strings{};
    passwd entry{};
    passwd* found = nullptr;
    if (::getpwnam_r(user.c_str(), &entry, strings.data(), strings.size(), &found) != 0)
        return std::nullopt;
    return found != nullptr ? std::optional<std::uint32_t>(found->pw_uid) : std::optional<std::uint32_t>();
}

} // namespace

NameService NameService::of_host()
{
    return {ask_for_name, ask_for_uid};
}

UserNames::UserNames(const Clock& clock, NameService service, std::string file)
    : file_(std::move(file)),
      late_names_(clock, std::move(service.name_of),
                  {std::chrono::milliseconds(50), std::chrono::milliseconds(500), std::chrono::seconds(10)}),
      late_uids_(clock, std::move(service.uid_of),
                 {std::chrono::seconds(2), std::chrono::seconds(5), std::chrono::minutes(1)})
{}

void UserNames::read_file()
{
    struct stat status {};
    if (::stat(file_.c_str(), &status) != 0)
        return; // it is being replaced
    const auto changed = status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec;
    if (changed == file_changed_ns_)
        return;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(file_.c_str(), "re"), std::fclose);
    if (!file)
        return;
    names_.clear();
    uids_.clear();
    file_changed_ns_ = changed;
    Strings strings{};
    passwd entry{};
    passwd* found = nullptr;
    while (::fgetpwent_r(file.get(), &entry, strings.data(), strings.size(), &found) == 0) {
        if (found->pw_name[0] == '+' || found->pw_name[0] == '-') // not users, but where others are (nsswitch.conf(5))
            continue;
        names_.emplace(found->pw_uid, found->pw_name); // of several the first (getpwuid(3))
        uids_.emplace(found->pw_name, found->pw_uid);
    }
}

std::string UserNames::name_of(std::uint32_t uid)
{
    read_file();
    if (const auto known = names_.find(uid); known != names_.end())
        return known->second;
    return late_names_.get(uid).value_or("");
}

std::optional<std::uint32_t> UserNames::uid_of(const std::string& user)
{
    std::uint32_t number = 0;
    const auto* const user_end = user.data() + user.size();
    if (const auto [end, code] = std::from_chars(user.data(), user_end, number); code == std::errc{} && end == user_end)
        return number;
    read_file();
    if (const auto known = uids_.find(user); known != uids_.end())
        return known->second;
    return late_uids_.get(user).value_or(std::nullopt);
}

} // namespace bulkhead::agent
