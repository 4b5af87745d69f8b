// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/late_answers.h"
#include "common/core/clock.h"

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>

namespace bulkhead::agent {

// Who knows users that are not in the file: a directory server on the network, perhaps, which may be away. Called in
// several threads at once.
struct NameService {
    LateAnswers<std::uint32_t, std::string>::Ask name_of;               // "": nobody has the number
    LateAnswers<std::string, std::optional<std::uint32_t>>::Ask uid_of; // nullopt in it: nobody has the name
    [[nodiscard]] static NameService of_host();                         // getpwuid_r(3), getpwnam_r(3)
};

// Names and numbers of users. Those of the file (/etc/passwd) are known at once, whatever becomes of others. What the
// name service says, "nobody" too, is kept for a minute; where it cannot say anything, or not in time, what it said
// before holds. Bounded. Not thread-safe.
class UserNames {
public:
    explicit UserNames(const Clock& clock, NameService service = NameService::of_host(),
                       std::string file = "/etc/passwd");

    // "" when nobody has the number, or it is not known yet. Waits 50 ms at most, for all of them half a second in ten.
    [[nodiscard]] std::string name_of(std::uint32_t uid);
    // `user` is a name or a number in decimal. nullopt as above. Waits two seconds at most, for all five in a minute.
    [[nodiscard]] std::optional<std::uint32_t> uid_of(const std::string& user);

private:
    void read_file();

    std::string file_;
    std::int64_t file_changed_ns_ = 0;
    std::unordered_map<std::uint32_t, std::string> names_;
    std::unordered_map<std::string, std::uint32_t> uids_;
    LateAnswers<std::uint32_t, std::string> late_names_;
    LateAnswers<std::string, std::optional<std::uint32_t>> late_uids_;
};

} // namespace bulkhead::agent
