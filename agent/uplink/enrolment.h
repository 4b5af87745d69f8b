// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/uplink/channel.h"
#include "agent/uplink/uplink.h"

namespace bulkhead::agent {

// One attempt to enrol with the join token. Errors of kind refused are final; all others are worth another attempt.
[[nodiscard]] Result<Credentials> enrol(const UplinkOptions& options, Cancellation& cancellation);

// A new key and certificate over a connection that the old ones opened.
[[nodiscard]] Result<Credentials> renew(const UplinkOptions& options, const Credentials& current,
                                        const std::shared_ptr<grpc::Channel>& channel, Cancellation& cancellation);

} // namespace bulkhead::agent
