// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/tls/tls.h"
#include "common/wire/wire.h"
#include "controller.grpc.pb.h"
#include "controller/daemon/controller.h"
#include "tests/unit/controller/temporary_dir.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>

namespace bulkhead::controller {

struct ClientIdentity {
    std::string key_pem, certificate_pem;
};

struct EnrolledAgent {
    std::string id, name;
    ClientIdentity identity;
};

// A whole controller on a loopback port, and clients for it.
class RunningController {
public:
    explicit RunningController(std::chrono::seconds clock_shift = {});

    void start();
    void stop() { controller_.reset(); }
    void restart();

    [[nodiscard]] std::shared_ptr<grpc::Channel> channel(const ClientIdentity& identity) const;
    [[nodiscard]] std::unique_ptr<v1::Admin::Stub> admin() const
    {
        return v1::Admin::NewStub(channel(admin_identity()));
    }
    [[nodiscard]] std::unique_ptr<v1::Agents::Stub> agents(const EnrolledAgent& agent) const
    {
        return v1::Agents::NewStub(channel(agent.identity));
    }
    [[nodiscard]] ClientIdentity admin_identity() const;
    [[nodiscard]] std::string ca() const;

    [[nodiscard]] std::string token(const v1::CreateTokenRequest& request = {}) const; // the secret
    grpc::Status try_enrol(const std::string& secret, const std::string& hostname,
                           const std::map<std::string, std::string>& labels, EnrolledAgent& agent) const;
    EnrolledAgent enrol(const std::string& hostname, const std::map<std::string, std::string>& labels = {}) const;
    v1::ApplyPolicyReply apply(const std::string& text, std::uint32_t wait_ms = 0) const;

    TemporaryDir dir;
    ShiftedClock clock;
    ControllerConfig config;

    Controller& controller() { return *controller_; }

private:
    std::unique_ptr<Controller> controller_;
};

// Every call of a test ends, whatever goes wrong.
void set_deadline(grpc::ClientContext& context, int seconds = 10);

// One agent's session: says hello, then reads. What it reads must be signed, as an agent would have it.
class AgentSession {
public:
    AgentSession(const RunningController& controller, const EnrolledAgent& agent);
    ~AgentSession();

    bool hello(const std::vector<std::string>& addresses, std::uint64_t generation = 0,
               const std::map<std::string, std::string>& labels = {});
    bool hello(const std::vector<std::string>& addresses, const v1::Standing& standing);
    bool read(v1::ControllerMessage& message);
    bool read(v1::PolicyUpdate& update);
    // As an agent does: a confirmation, or an update with what is left of its trial.
    bool answer(const v1::ControllerMessage& message);
    bool tell(const v1::Standing& standing);
    bool answer(const v1::PolicyUpdate& update, bool enforced = true, const std::string& refusal = "",
                bool need_snapshot = false);
    grpc::Status finish();

private:
    void expect_signed(const v1::PolicyUpdate& update);

    std::unique_ptr<v1::Agents::Stub> stub_;
    grpc::ClientContext context_;
    std::unique_ptr<grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>> stream_;
    std::vector<std::string> addresses_; // of the last hello with a standing
    std::string ca_;
    std::optional<wire::HostState> state_; // after the last update whose base is known here
    bool finished_ = false;
};

[[nodiscard]] std::string bytes_of(const std::string& address); // "10.0.0.1" -> wire form

inline constexpr const char* shop_policy = R"(version: 1
segment: shop-db
selector: {app: shop, role: db}
mode: enforce
allow:
  - id: api-to-db
    from: {segment: shop-api}
    service: tcp/5432
---
version: 1
segment: shop-api
selector: {app: shop, role: api}
mode: test
)";

} // namespace bulkhead::controller
