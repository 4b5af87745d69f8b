// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead::agent {

// Who cut this host off but for its failsafes, why and until when.
struct QuarantineHold {
    std::string by, reason;
    std::int64_t since_us = 0;
    std::int64_t until_us = 0; // 0: until it is released
    bool operator==(const QuarantineHold&) const = default;
};

// The host is in quarantine while anybody holds it there; each side lifts what it has imposed.
struct Quarantine {
    std::optional<QuarantineHold> local, controller;
    [[nodiscard]] bool stands() const { return local || controller; }
    // The one to name where there is room for one.
    [[nodiscard]] const QuarantineHold& hold() const { return controller ? *controller : *local; }
    bool operator==(const Quarantine&) const = default;
};

// STATE/quarantine.pb, there while a quarantine stands. Format in docs/agent.md.
class QuarantineState {
public:
    explicit QuarantineState(const std::string& state_dir) : path_(state_dir + "/quarantine.pb") {}

    // Invalid: the file is damaged, and was set aside as ".damaged".
    [[nodiscard]] Result<Quarantine> load();
    [[nodiscard]] Status save(const Quarantine& quarantine);

private:
    std::string path_;
};

[[nodiscard]] std::string encode(const Quarantine& quarantine);
[[nodiscard]] Result<Quarantine> decode_quarantine(const std::string& bytes);

} // namespace bulkhead::agent
