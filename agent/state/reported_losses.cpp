// SPDX-License-Identifier: Apache-2.0
#include "agent/state/reported_losses.h"

#include "agent/state/atomic_file.h"

#include <sstream>

namespace bulkhead::agent {

ReportedLosses::ReportedLosses(std::string state_dir, std::string boot_id)
    : path_(std::move(state_dir) + "/reported-losses"), boot_id_(std::move(boot_id))
{
    // An unreadable file costs a second report of the same loss, and nothing else.
    const auto text = read_file_if_there(path_);
    if (!text || !*text)
        return;
    std::istringstream lines(**text);
    std::string boot, name;
    if (!std::getline(lines, boot) || boot != boot_id_)
        return;
    for (std::uint64_t value = 0; lines >> name >> value;)
        reported_[name] = value;
}

Status ReportedLosses::keep(const std::map<std::string, std::uint64_t>& counters)
{
    std::map<std::string, std::uint64_t> losses;
    for (const auto& [name, value] : counters)
        if (value != 0 && name.find("lost") != std::string::npos)
            losses.emplace(name, value);
    if (losses == reported_)
        return {};
    std::string text = boot_id_ + "\n";
    for (const auto& [name, value] : losses)
        text += fmt::format("{} {}\n", name, value);
    BULKHEAD_CHECK(write_file_atomically(path_, text, 0600));
    reported_ = std::move(losses);
    return {};
}

} // namespace bulkhead::agent
