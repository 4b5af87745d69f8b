// SPDX-License-Identifier: Apache-2.0
#include "cli/host/agent_checks.h"

#include "cli/host/mends.h"
#include "common/core/clock.h"
#include "common/tls/tls.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace bulkhead::cli {
namespace {

using Grade = Finding::Grade;
using std::chrono::system_clock;

constexpr std::uint64_t least_bytes = 64ULL << 20; // a policy is small; the spool is what grows
constexpr std::uint64_t least_inodes = 1000;
constexpr const char* certificate_begins = "-----BEGIN CERTIFICATE-----";

// The agent knows best what it accepts. It reads its policy folder, too, which needs its privileges.
bool agent_refuses(const HostPaths& paths, const AgentPlace& place)
{
    if ((!place.config_is_there && place.options.empty()) || ::geteuid() != 0)
        return false;
    std::vector<std::string> command{"bulkheadd", "--check"};
    if (place.config_is_there)
        command.insert(command.end(), {"--config", paths.root + place.config});
    command.insert(command.end(), place.options.begin(), place.options.end());
    const auto ended = paths.run(command);
    return ended && ended->code != 0;
}

Finding check_config(const HostPaths& paths, const AgentPlace& place)
{
    const auto flags = place.options.empty() ? "" : "BULKHEAD_OPTIONS of " + place.environment;
    const bool named = place.config_is_there || !place.trouble.empty();
    const auto mend = fmt::format("bulkheadd --check{}{}", named ? " --config " + place.config : "",
                                  flags.empty() ? "" : ", with " + flags);
    if (!place.trouble.empty())
        return {Grade::bad, "configuration", fmt::format("{}: {}", place.config, place.trouble), mend};
    if (agent_refuses(paths, place))
        return {Grade::bad, "configuration",
                fmt::format("{}{}{}, or what it names, is not valid", place.config_is_there ? place.config : "",
                            place.config_is_there && !flags.empty() ? " with " : "", flags),
                mend};
    if (!place.environment_trouble.empty())
        return {Grade::unseen, "configuration",
                fmt::format("flags of the agent's unit: {}: {}", place.environment, place.environment_trouble),
                "run as root"};
    return {Grade::good, "configuration",
            fmt::format("{}{}{}", place.config_is_there ? place.config : "no file: defaults",
                        flags.empty() ? "" : " and ", flags),
            ""};
}

Finding check_state_dir(const std::string& path, const std::string& name)
{
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0)
        return errno == ENOENT
                   ? Finding{Grade::unseen, "state folder", name + " is not there yet: the agent makes it", ""}
                   : Finding{Grade::unseen, "state folder", name + ": " + std::strerror(errno), "run as root"};
    if (!S_ISDIR(found.st_mode))
        return {Grade::bad, "state folder", name + " is no folder: the agent sets it aside when it starts",
                fmt::format("mv {} {}.aside", name, name)};
    if (::geteuid() == 0 && found.st_uid != 0)
        return {Grade::bad, "state folder",
                fmt::format("{} belongs to user {}: the agent cannot write there, or somebody else can", name,
                            found.st_uid),
                "chown -R root:root " + name};
    if ((found.st_mode & 077U) != 0)
        return {Grade::warning, "state folder",
                fmt::format("{} is open to others (mode {:04o})", name, found.st_mode & 07777U), "chmod 0700 " + name};
    if (::faccessat(AT_FDCWD, path.c_str(), R_OK | X_OK, AT_EACCESS) != 0)
        return {Grade::unseen, "state folder", name + " may not be read by this user", "run as root"};
    if (::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) != 0)
        return {Grade::bad, "state folder",
                fmt::format("{} cannot be written to ({}): no policy, record or certificate is kept", name,
                            std::strerror(errno)),
                "mount -o remount,rw the file system it is on, or give the folder back to its owner"};
    std::error_code ignored; // what went meanwhile is gone
    std::string damaged = std::filesystem::exists(path + ".damaged", ignored) ? name + ".damaged" : "";
    for (const auto& entry : std::filesystem::directory_iterator(path, ignored))
        if (entry.path().extension() == ".damaged")
            damaged += (damaged.empty() ? "" : ", ") + entry.path().filename().string();
    if (!damaged.empty())
        return {Grade::warning, "state folder", fmt::format("{}: set aside as damaged: {}", name, damaged),
                "look at the disk's health, then remove them"};
    return {Grade::good, "state folder", name, ""};
}

Finding check_room(const std::string& path, const std::string& name)
{
    // Before the folder is there, the file system that it will be on.
    std::filesystem::path nearest(path);
    struct statvfs room {};
    while (::statvfs(nearest.c_str(), &room) != 0)
        if (errno != ENOENT || nearest == nearest.parent_path())
            return {Grade::unseen, "disk", fmt::format("{}: {}", name, std::strerror(errno)), "run as root"};
        else
            nearest = nearest.parent_path();
    const auto bytes = static_cast<std::uint64_t>(room.f_bavail) * room.f_frsize;
    const auto text = fmt::format("{} MiB and {} inodes free for {}", bytes >> 20, room.f_favail, name);
    if ((room.f_flag & ST_RDONLY) != 0)
        return {Grade::bad, "disk", fmt::format("the file system of {} is read-only", name),
                "look at the kernel's log for why, then mount -o remount,rw it"};
    const bool no_inodes = room.f_files != 0 && room.f_favail < least_inodes; // 0: a file system that counts none
    if (bytes < least_bytes || no_inodes)
        return {bytes == 0 || (room.f_files != 0 && room.f_favail == 0) ? Grade::bad : Grade::warning, "disk", text,
                "make room: records are lost, and new policies are not kept, when it is full"};
    return {Grade::good, "disk", text, ""};
}

Finding judge_certificate(const std::string& pem, const std::string& name, system_clock::time_point now)
{
    const auto facts = tls::inspect_certificate(pem);
    if (!facts)
        return {Grade::bad, "certificate", fmt::format("{}: {}", name, facts.error().message), enrol_again};
    const auto until = format_rfc3339(facts->not_after);
    if (now < facts->not_before)
        return {Grade::bad, "certificate",
                fmt::format("{} is not valid before {}: the clock is behind", name, format_rfc3339(facts->not_before)),
                "set the clock"};
    if (now >= facts->not_after)
        return {Grade::bad, "certificate", fmt::format("{} ended at {}", name, until), enrol_again};
    const auto life = facts->not_after - facts->not_before;
    const auto days = std::chrono::duration_cast<std::chrono::hours>(facts->not_after - now).count() / 24;
    if (now > facts->not_before + life / 6 * 5) // renewed at two thirds, when all is well
        return {Grade::warning, "certificate", fmt::format("{} ends at {}, and was not renewed", name, until),
                "see the findings on the session and the controller, and journalctl -u bulkheadd"};
    return {Grade::good, "certificate", fmt::format("{} until {} ({} days)", name, until, days), ""};
}

void check_credentials(const std::string& root, const AgentPlace& place, system_clock::time_point now,
                       Findings& findings)
{
    const auto path = place.state_dir + "/agent.pem";
    if (auto key = check_key_file(root + path, fmt::format("if somebody has read it, remove it and {}", enrol_again)))
        findings.push_back(std::move(*key));
    else if (errno == EACCES)
        findings.push_back({Grade::unseen, "certificate", path + " may not be read by this user", "run as root"});
    else if (!place.controller.empty())
        findings.push_back({Grade::bad, "certificate", "this host is not enrolled", enrol_again});
    const auto pem = whole_file(root + path);
    if (!pem)
        return;
    const auto split = pem->find(certificate_begins);
    findings.push_back(judge_certificate(split == std::string::npos ? std::string() : pem->substr(split), path, now));
}

// Tokens let a host in, and are there to be forgotten.
void check_tokens(const std::string& root, const AgentPlace& place, Findings& findings)
{
    for (const auto& path : {place.join_file, place.environment}) {
        struct stat found {};
        if (!path.empty() && ::stat((root + path).c_str(), &found) == 0 && S_ISREG(found.st_mode) &&
            (found.st_mode & 077U) != 0)
            findings.push_back({Grade::warning, "join token",
                                fmt::format("{} is open to others (mode {:04o})", path, found.st_mode & 07777U),
                                "chmod 0600 " + path});
    }
}

Finding check_policy_dir(const std::string& root, const std::string& name)
{
    std::error_code error;
    if (std::filesystem::is_directory(root + name, error))
        return {Grade::good, "policy folder", name, ""};
    if (error == std::errc::permission_denied)
        return {Grade::unseen, "policy folder", name + " may not be read by this user", "run as root"};
    return {Grade::bad, "policy folder", name + " is no folder, or not there: what was in force stays",
            fmt::format("install -d {}, and put a policy into it", name)};
}

// Files are written as time goes by: one from the future says that the clock went back.
Finding check_steps(const std::string& path, system_clock::time_point now)
{
    constexpr std::chrono::seconds tolerance{5};
    std::error_code ignored; // what cannot be seen says nothing
    for (const auto& entry : std::filesystem::directory_iterator(path, ignored)) {
        struct stat found {};
        if (::stat(entry.path().c_str(), &found) == 0 && system_clock::from_time_t(found.st_mtime) > now + tolerance)
            return {Grade::warning, "clock steps",
                    fmt::format("{} was written at {}, which is yet to come: the clock was set back",
                                entry.path().filename().string(),
                                format_rfc3339(system_clock::from_time_t(found.st_mtime))),
                    "run one time service, and none that steps; records of that time have doubtful times"};
    }
    return {Grade::good, "clock steps", "no file is from the future", ""};
}

} // namespace

std::optional<Finding> check_key_file(const std::string& path, const std::string& then)
{
    struct stat found {};
    if (::stat(path.c_str(), &found) != 0)
        return std::nullopt;
    if ((found.st_mode & 077U) != 0)
        return Finding{Grade::bad, "key",
                       fmt::format("{} is open to others (mode {:04o})", path, found.st_mode & 07777U),
                       fmt::format("chmod 0600 {}; {}", path, then)};
    return Finding{Grade::good, "key", path + " is its owner's alone", ""};
}

bool anything_pinned(const HostPaths& paths, const AgentPlace& place)
{
    std::error_code ignored; // what cannot be seen is not there
    return std::filesystem::directory_iterator(paths.root + place.pin_dir, ignored) !=
           std::filesystem::directory_iterator();
}

Findings check_agent_files(const HostPaths& paths, const AgentPlace& place, system_clock::time_point now)
{
    Findings findings{check_config(paths, place)};
    const auto state = paths.root + place.state_dir;
    findings.push_back(check_state_dir(state, place.state_dir));
    findings.push_back(check_room(state, place.state_dir));
    std::error_code ignored; // what cannot be seen is not there
    if (std::filesystem::exists(state + "/spool", ignored))
        findings.push_back(check_room(state + "/spool", place.state_dir + "/spool"));
    if (std::filesystem::exists(state, ignored))
        findings.push_back(check_steps(state, now));
    check_credentials(paths.root, place, now, findings);
    check_tokens(paths.root, place, findings);
    if (!place.policy_dir.empty())
        findings.push_back(check_policy_dir(paths.root, place.policy_dir));
    return findings;
}

} // namespace bulkhead::cli
