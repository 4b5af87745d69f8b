// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller.pb.h"

#include <memory>
#include <string>

namespace bulkhead::controller {

// One agent's open stream. Thread-safe; no call waits for the network.
class AgentLink {
public:
    virtual ~AgentLink() = default;
    [[nodiscard]] virtual const std::string& agent_id() const = 0;
    // The newest message replaces one that has not left yet.
    virtual void send(std::shared_ptr<const v1::ControllerMessage> message) = 0;
    // The same for orders of quarantine, which go before updates.
    virtual void send_order(std::shared_ptr<const v1::ControllerMessage> order) = 0;
    virtual void read_next() = 0; // the message handed over last has been dealt with
    virtual void close(const std::string& reason) = 0;
};

} // namespace bulkhead::controller
