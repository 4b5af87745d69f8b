// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "tests/bpf/policies.h"
#include "tests/bpf/sandbox.h"
#include "tests/bpf/sockets.h"

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace bulkhead::test {

inline constexpr auto inbound = policy::Direction::inbound;
inline constexpr auto outbound = policy::Direction::outbound;
inline constexpr auto permit = policy::Action::allow;
inline constexpr auto refuse = policy::Action::deny;

// One guarded host and one peer that nothing guards, joined by a wire. Skips without root.
class BpfTest : public testing::Test {
protected:
    void SetUp() override;
    void TearDown() override;

    // In the guarded host's namespace and enforced cgroup; on the peer; in the guarded namespace outside of the cgroup.
    void guarded(const std::function<void()>& work) const { run_in(world_->wire.guarded, world_->enforced, work); }
    void peer(const std::function<void()>& work) const { run_in(world_->wire.peer, world_->elsewhere, work); }
    void outsider(const std::function<void()>& work) const { run_in(world_->wire.guarded, world_->elsewhere, work); }

    [[nodiscard]] virtual agent::DatapathOptions options(const std::string& instance = "test") const;
    // open_datapath() in the guarded namespace.
    [[nodiscard]] Result<std::unique_ptr<agent::Datapath>> open(const agent::DatapathOptions& options) const;
    void realise(const TestPolicy& policy, agent::FacetTable facets = {});

    // The first event, of those not yet looked at, that satisfies the condition; two seconds at most.
    using Condition = std::function<bool(const bh_event&)>;
    std::optional<bh_event> wait_for(const Condition& condition);
    // How many of the events that come until it is quiet satisfy the condition.
    std::size_t drained_count(const Condition& condition);
    // All events that come until it is quiet.
    std::vector<bh_event> drain();

    struct World {
        Wire wire;
        Cgroup enforced, elsewhere;
        explicit World(const std::string& base) : enforced(base), elsewhere(base + "-elsewhere") {}
    };
    std::unique_ptr<World> world_;
    std::unique_ptr<agent::Datapath> datapath_;
    std::deque<bh_event> pending_;
    agent::IngressOptions ingress_{}; // what options() has of it
};

} // namespace bulkhead::test
