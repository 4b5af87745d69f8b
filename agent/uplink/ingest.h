// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/spool.h"
#include "agent/uplink/channel.h"

namespace bulkhead::agent {

// Delivers the spool in order from where the controller has acknowledged; the controller discards what it has already.
// Returns when the stream ends, or when cancelled.
[[nodiscard]] grpc::Status deliver_records(const std::shared_ptr<grpc::Channel>& channel, Spool& spool,
                                           const std::string& agent_id, Cancellation& cancellation);

} // namespace bulkhead::agent
