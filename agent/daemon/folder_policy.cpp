// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/folder_policy.h"

#include "common/policy/compile.h"

#include <fmt/ranges.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>

namespace bulkhead::agent {
namespace {

Error all_of(const std::vector<policy::Diagnostic>& diagnostics)
{
    std::vector<std::string> lines;
    for (const auto& diagnostic : diagnostics)
        lines.push_back(diagnostic.to_string());
    return {ErrorKind::invalid, fmt::format("{}", fmt::join(lines, "\n")), {}};
}

policy::Inventory inventory_of(const policy::PolicySet& set, const OwnWorkload& own)
{
    policy::Workload self{own.name, own.labels, {}};
    const auto declared_elsewhere = [&](const IpAddress& address) {
        return std::any_of(set.workloads.begin(), set.workloads.end(), [&](const policy::WorkloadDeclaration& other) {
            return other.name != own.name &&
                   std::find(other.addresses.begin(), other.addresses.end(), address) != other.addresses.end();
        });
    };
    for (const auto& address : own.addresses)
        if (!declared_elsewhere(address)) // what somebody wrote down counts more than what an interface says
            self.addresses.push_back(address);
    return {{std::move(self)}};
}

} // namespace

Result<wire::HostState> FolderPolicy::compile(const std::string& folder, const OwnWorkload& own)
{
    BULKHEAD_TRY(const auto files, policy::read_policy_files(std::array<std::string, 1>{folder}));
    return compile(files, own);
}

Result<wire::HostState> FolderPolicy::compile(const std::vector<policy::SourceFile>& files, const OwnWorkload& own)
{
    const auto outcome = policy::parse(files);
    if (!outcome.ok())
        return tl::unexpected(all_of(outcome.diagnostics));
    const auto merged = policy::merge_declared(inventory_of(outcome.policy, own), outcome.policy);
    const auto identities = policy::build_identities(
        outcome.policy, merged, [this](const policy::Labels& labels, const std::string& named) {
            const auto [number, added] = numbers_.try_emplace({labels, named}, last_ + 1);
            last_ += added ? 1 : 0;
            return number->second;
        });

    wire::HostState state;
    state.own_labels = own.labels;
    for (const auto& workload : merged.workloads)
        if (workload.name == own.name)
            state.own_labels = workload.labels;
    BULKHEAD_TRY(state.policy, policy::compile_host(outcome.policy, identities.identities, state.own_labels, own.name));
    state.addresses = identities.addresses;
    for (const auto& identity : identities.identities)
        state.identities.emplace(identity.id, identity);
    return state;
}

std::string look_of(const std::string& folder, const OwnWorkload& own)
{
    std::error_code error;
    const auto place = std::filesystem::canonical(folder, error);
    std::vector<std::string> lines;
    std::filesystem::directory_iterator entry(place, error);
    for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
        struct stat now {};
        if (::stat(entry->path().c_str(), &now) != 0)
            return {};
        lines.push_back(fmt::format("{} {} {} {} {}.{:09} {}.{:09}", entry->path().filename().string(), now.st_dev,
                                    now.st_ino, now.st_size, now.st_mtim.tv_sec, now.st_mtim.tv_nsec,
                                    now.st_ctim.tv_sec, now.st_ctim.tv_nsec));
    }
    if (error)
        return {};
    std::sort(lines.begin(), lines.end());
    std::string look = fmt::format("{}\n{}\n", place.string(), own.name);
    for (const auto& [key, value] : own.labels)
        look += fmt::format("{}={}\n", key, value);
    return look + fmt::format("{}\n", fmt::join(lines, "\n"));
}

void FolderPolicy::remember(const wire::HostState& state)
{
    for (const auto& [id, identity] : state.identities) {
        numbers_.try_emplace({identity.labels, identity.named_workload}, id);
        last_ = std::max(last_, id);
    }
}

} // namespace bulkhead::agent
