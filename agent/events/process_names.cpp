// SPDX-License-Identifier: Apache-2.0
#include "agent/events/process_names.h"

#include <cstring>

namespace bulkhead::agent {
namespace {

constexpr auto serve_for = std::chrono::seconds(1);
constexpr std::size_t max_entries = 4096;

} // namespace

SharedProcess ProcessNames::describe(const bh_subject& subject)
{
    if (subject.pid == 0 && subject.cgroup_id == 0)
        return nullptr;
    auto process_wide = subject;
    process_wide.tid = 0;
    std::string key(sizeof(process_wide), '\0');
    std::memcpy(key.data(), &process_wide, sizeof(process_wide));
    const auto now = clock_.monotonic();
    if (const auto known = entries_.find(key); known != entries_.end() && now - known->second.at < serve_for)
        return known->second.process;
    if (now - swept_ >= serve_for) {
        std::erase_if(entries_, [now](const auto& entry) { return now - entry.second.at >= serve_for; });
        swept_ = now;
    }
    if (entries_.size() >= max_entries)
        entries_.clear();
    auto process = std::make_shared<const v1::Process>(processes_.describe(subject));
    entries_[std::move(key)] = {process, now};
    return process;
}

} // namespace bulkhead::agent
