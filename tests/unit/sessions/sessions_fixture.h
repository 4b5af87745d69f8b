// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/sessions/sessions.h"
#include "tests/harness/fake_clock.h"
#include "tests/harness/fake_datapath.h"
#include "walked_sockets.h"

#include <gtest/gtest.h>

#include <map>

namespace bulkhead::agent {

using namespace std::chrono_literals;
using policy::Direction;
using Kind = policy::Sessions::Kind;

class Sessions : public ::testing::Test {
protected:
    void SetUp() override
    {
        datapath.denies = [](const auto& request) { return request.port == 443 || request.port == 5432; };
    }
    std::vector<ForbiddenSession> after(Kind kind, std::chrono::seconds drain = 0s)
    {
        return keeper.after_switch({kind, drain}).value();
    }

    test::FakeDatapath datapath;
    test::FakeClock clock;
    std::map<std::uint64_t, Direction> recorded;
    SessionKeeper keeper{datapath, clock, [this](const bh_walked_socket& socket) -> std::optional<Direction> {
                             const auto known = recorded.find(socket.cookie);
                             return known == recorded.end() ? std::nullopt : std::optional(known->second);
                         }};
};

} // namespace bulkhead::agent
