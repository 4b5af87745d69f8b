// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

namespace bulkhead::agent {

// Names and numbers of users as the host's name service knows them (getpwuid_r(3), getpwnam_r(3)). Answers, "nobody"
// too, are kept for a minute, or until /etc/passwd changes, because a name service may be a server on the network.
// Bounded.
class UserNames {
public:
    explicit UserNames(const Clock& clock) : clock_(clock) {}

    [[nodiscard]] std::string name_of(std::uint32_t uid); // "" when nobody has the number
    // `user` is a name or a number in decimal.
    [[nodiscard]] std::optional<std::uint32_t> uid_of(const std::string& user);

private:
    void forget_when_stale();

    const Clock& clock_;
    std::optional<MonotonicTime> filled_;
    std::int64_t passwd_changed_ns_ = 0;
    std::unordered_map<std::uint32_t, std::string> names_;
    std::unordered_map<std::string, std::optional<std::uint32_t>> uids_;
};

} // namespace bulkhead::agent
