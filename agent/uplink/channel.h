// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/uplink/credentials.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>

namespace bulkhead::agent {

// A channel of its own (no shared connection below), so that a new certificate really makes a new handshake.
// `credentials` null: server-verified only, for enrolment.
[[nodiscard]] std::shared_ptr<grpc::Channel> open_channel(const std::string& host_port, const std::string& ca_pem,
                                                          const Credentials* credentials);

[[nodiscard]] Error to_error(const grpc::Status& status, const std::string& what);

// Ends everything of one uplink, or of one connection, at once: calls in flight are cancelled, waits return.
// Thread-safe.
class Cancellation {
public:
    void cancel();
    [[nodiscard]] bool cancelled() const;
    // False when cancelled, else true after the time.
    bool sleep(std::chrono::milliseconds time);
    // True once `ready` holds; false when cancelled first or after the time. Ask again after notify().
    bool wait(std::chrono::milliseconds time, const std::function<bool()>& ready);
    void notify();

    // While it lives, cancel() also cancels this call.
    class Scope {
    public:
        Scope(Cancellation& owner, grpc::ClientContext& context);
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

    private:
        Cancellation& owner_;
        grpc::ClientContext& context_;
    };

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::set<grpc::ClientContext*> contexts_;
    bool cancelled_ = false;
};

// Waits between attempts: 0.2 s doubling to 10 s, each with a random half taken off, so that agents that lost their
// controller together do not come back together.
class Backoff {
public:
    [[nodiscard]] std::chrono::milliseconds next();
    void reset() { ceiling_ = first; }

private:
    static constexpr std::chrono::milliseconds first{200}, last{10'000};
    std::chrono::milliseconds ceiling_ = first;
};

} // namespace bulkhead::agent
