// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "agent/datapath/pins.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace bulkhead::agent {

// Where the programs act.
struct AttachPoint {
    int cgroup = -1; // folder, borrowed
    std::uint64_t cgroup_id = 0;
    int netns = -1; // borrowed
    std::uint32_t netns_inode = 0;
};

// A program of a cgroup, or of a network namespace (BPF_SK_LOOKUP).
struct Hook {
    const char* name = ""; // of the pin
    int program = -1;      // borrowed, as long as it is attached by this
    bpf_attach_type type{};
};

// The programs at their hooks. The links are pinned and outlive this; it holds them open as well, so that a pin that is
// taken away costs nothing but the pin.
class Attachments {
public:
    // Puts every program to its hook: a pinned link that lives gets the new program in place, without a moment in which
    // none runs; one that is missing or dead is made anew and pinned. On failure everything is as it was. `halfway` is
    // done when the programs that keep tables are in place and those that decide are not yet. `more`: hooks of programs
    // that are not in the skeleton; they come last.
    static Result<Attachments> make(const PinFolder& pins, const AttachPoint& where, ::datapath& skeleton,
                                    std::span<const Hook> more, const std::function<Status()>& halfway);

    // One more, in the same way. Does nothing if it is there.
    Status add(const Hook& hook);
    [[nodiscard]] bool holds(std::string_view name) const;

    // Puts back what was detached or replaced.
    void inspect(std::vector<Tampering>& found);
    [[nodiscard]] std::vector<PinnedObject> pinned() const;

private:
    struct Held {
        Hook hook;
        UniqueFd link;
    };
    Attachments(PinFolder pins, const AttachPoint& where, UniqueFd cgroup, UniqueFd netns) // its own descriptors
        : pins_(std::move(pins)), cgroup_(std::move(cgroup)),
          netns_(std::move(netns)), where_{cgroup_.get(), where.cgroup_id, netns_.get(), where.netns_inode}
    {}
    Status hold(const Hook& hook);
    [[nodiscard]] std::optional<Tampering> mend(Held& held) const;

    PinFolder pins_;
    UniqueFd cgroup_, netns_;
    AttachPoint where_; // of the two
    std::vector<Held> held_;
};

} // namespace bulkhead::agent
