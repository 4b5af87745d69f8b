// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/pins.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace bulkhead::agent {

// Where the programs act.
struct AttachPoint {
    int cgroup = -1; // folder, borrowed
    std::uint64_t cgroup_id = 0;
    int netns = -1; // borrowed
    std::uint32_t netns_inode = 0;
};

// The programs at their hooks. The links are pinned and outlive this; it holds them open as well, so that a pin that is
// taken away costs nothing but the pin.
class Attachments {
public:
    // Puts every program to its hook: a pinned link that lives gets the new program in place, without a moment in which
    // none runs; one that is missing or dead is made anew and pinned. On failure everything is as it was. `halfway` is
    // done when the programs that keep tables are in place and those that decide are not yet.
    static Result<Attachments> make(const PinFolder& pins, const AttachPoint& where, ::datapath& skeleton,
                                    const std::function<Status()>& halfway);

    // Puts back what was detached or replaced.
    void inspect(std::vector<Tampering>& found);
    [[nodiscard]] std::vector<PinnedObject> pinned() const;

private:
    struct Held {
        const char* name;
        bpf_program* program;
        bool is_netns;
        UniqueFd link;
    };
    Attachments(PinFolder pins, UniqueFd cgroup, UniqueFd netns) // its own descriptors
        : pins_(std::move(pins)), cgroup_(std::move(cgroup)), netns_(std::move(netns))
    {}
    Status reopen(Held& held) const;
    [[nodiscard]] std::optional<Tampering> mend(Held& held) const;

    PinFolder pins_;
    UniqueFd cgroup_, netns_;
    std::vector<Held> held_;
};

} // namespace bulkhead::agent
