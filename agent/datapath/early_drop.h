// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/interfaces.h"
#include "agent/datapath/programs.h"
#include "common/core/unique_fd.h"

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace bulkhead::agent {

// What the guard would drop of what arrives during a quarantine, dropped by XDP before a socket buffer is made of it,
// on interfaces whose driver has it. Nothing depends on it: where it is not, the guard drops the same. So nothing is
// pinned, and it goes with this process. Not thread-safe.
class EarlyDrop {
public:
    // `skeleton` has its maps, and outlives this. Without `wanted` nothing is ever attached.
    EarlyDrop(::datapath& skeleton, std::shared_ptr<SparePrograms> program, bool wanted)
        : skeleton_(&skeleton), program_(std::move(program)), wanted_(wanted)
    {}

    // Attaches to those of the guarded interfaces that can, while the host is in quarantine; else detaches. In the
    // network namespace of the interfaces. An interface that refuses is not asked again in the same quarantine: many
    // drivers interrupt the link for it.
    void follow(const std::vector<Interface>& guarded);
    void detach();

    // Names of the interfaces on which it acts, in order.
    [[nodiscard]] std::vector<std::string> interfaces() const;

private:
    struct Attached {
        std::string name;
        UniqueFd link;
    };
    [[nodiscard]] bool quarantined() const;
    void attach(const Interface& interface);

    ::datapath* skeleton_;
    std::shared_ptr<SparePrograms> program_;
    bool wanted_;
    std::map<int, Attached> links_; // by the interface's index
    std::set<int> refused_;
    bool unloadable_ = false; // in this quarantine
};

} // namespace bulkhead::agent
