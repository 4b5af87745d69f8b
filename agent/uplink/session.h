// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/uplink/channel.h"
#include "agent/uplink/uplink.h"

#include <atomic>

namespace bulkhead::agent {

// One Session stream, from Hello to its end: reports the host's status every 10 seconds and when asked, and answers
// every policy update. `on_open` is called when Hello is on its way; a controller that sends nothing for lack of policy
// is connected, too. Returns why it ended.
class Session {
public:
    Session(UplinkHost& host, Cancellation& cancellation) : host_(host), cancellation_(cancellation) {}

    grpc::Status run(const std::shared_ptr<grpc::Channel>& channel, const std::function<void()>& on_open);
    void report_soon()
    {
        report_ = true;
        cancellation_.notify();
    }

private:
    UplinkHost& host_;
    Cancellation& cancellation_; // of this connection
    std::atomic<bool> report_{false};
};

} // namespace bulkhead::agent
