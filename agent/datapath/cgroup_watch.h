// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/ring_reader.h"

#include <cstdint>
#include <memory>
#include <optional>

struct newcomers;

namespace bulkhead::agent {

// Hears of cgroups at the moment that they are made below the enforced one. The program is attached for as long as this
// lives. Not thread-safe.
class CgroupWatch {
public:
    struct Scope {
        std::uint64_t cgroup = 0; // the enforced one
        std::uint32_t level = 0;  // 0: the root
        std::uint32_t owner = 0;  // of its folder
    };
    explicit CgroupWatch(const Scope& scope);
    ~CgroupWatch();
    CgroupWatch(CgroupWatch&&) noexcept;
    CgroupWatch& operator=(CgroupWatch&&) noexcept;

    // See Datapath::cgroup_events().
    [[nodiscard]] int fd();
    // See Datapath::take_new_cgroups().
    [[nodiscard]] bool take();

private:
    struct Deleter {
        void operator()(::newcomers* skeleton) const;
    };
    [[nodiscard]] Status begin();

    Scope scope_;
    bool tried_ = false;
    std::unique_ptr<::newcomers, Deleter> skeleton_;
    Link link_; // not pinned
    std::optional<RingReader> ring_;
};

} // namespace bulkhead::agent
