// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "controller.grpc.pb.h"
#include "local.grpc.pb.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>

namespace bulkhead::cli {

// Whom the commands ask. Connects on first use; the stubs live as long as this object. Replaced in tests.
class Peers {
public:
    virtual ~Peers() = default;
    virtual Result<v1::Admin::StubInterface*> admin() = 0;
    virtual Result<v1::Local::StubInterface*> agent() = 0;
    // False: there is no context file, and none was named.
    [[nodiscard]] virtual bool knows_controller() const = 0;
    // What is known of it beside the command line, which counts more; empty: nothing.
    virtual void agent_listens_at(const std::string& socket) = 0;
    // "10.0.0.1:7443", "agent at /run/bulkhead/agent.sock": for messages.
    [[nodiscard]] virtual std::string admin_name() const = 0;
    [[nodiscard]] virtual std::string agent_name() const = 0;
};

inline constexpr const char* default_agent_socket = "/run/bulkhead/agent.sock";

struct PeerOptions {
    std::string config;     // context file; empty: BULKHEAD_CONFIG, else ~/.config/bulkhead/config.yaml
    std::string controller; // overrides the context's address
    std::string socket = default_agent_socket;
};
[[nodiscard]] std::unique_ptr<Peers> make_peers(PeerOptions options);

// Unary calls end after this; a controller that cannot be reached is reported sooner.
inline constexpr std::chrono::seconds call_deadline{10};
void set_deadline(grpc::ClientContext& call, std::chrono::milliseconds more = {});

// A failed call in the user's words, with the exit code's kind.
[[nodiscard]] Error explain(const grpc::Status& status, const std::string& peer);

} // namespace bulkhead::cli
