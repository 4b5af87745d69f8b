// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/spool.h"
#include "common/core/result.h"
#include "controller.pb.h"

#include <map>
#include <memory>
#include <optional>
#include <string>

namespace bulkhead::agent {

// What the uplink asks of, and tells, the rest of the agent. Called from the uplink's own threads.
class UplinkHost {
public:
    virtual ~UplinkHost() = default;
    virtual v1::Hello hello() = 0;
    virtual v1::HostStatus status() = 0;
    // Realises the update. The answer goes to the controller; nullopt: the agent is stopping.
    virtual std::optional<v1::PolicyResult> on_update(const v1::PolicyUpdate& update) = 0;
    virtual std::optional<v1::PolicyResult> on_confirm(const v1::Confirm& confirm) = 0;
    // What came of it is in the next status().
    virtual void on_quarantine(const v1::QuarantineOrder& order) = 0;
    // Before the first update. `authority_pem` is the certificate by which policies are verified.
    virtual void on_identity(const std::string& agent_id, const std::string& authority_pem, bool enrolled_now) = 0;
    virtual void on_connected(bool connected) = 0;
    // The controller has refused to enrol this host, for good.
    virtual void on_enrolment_refused(const Error& error) = 0;
};

struct UplinkOptions {
    std::string controller; // HOST:PORT
    std::string state_dir;
    std::string hostname;
    std::map<std::string, std::string> labels;
    std::string join_token; // may be empty when the host is enrolled
};

// The connection to the controller: enrolment, the session that brings policy, the delivery of records, renewal of the
// certificate. Tries for ever, with backoff; nothing in here holds up enforcement. Destroying it ends it within a
// second or two.
class Uplink {
public:
    virtual ~Uplink() = default;
    virtual void report_soon() = 0; // something in status() has changed
    [[nodiscard]] virtual bool connected() const = 0;
};

// Fails (invalid) when the host is neither enrolled nor has a token that can be read.
[[nodiscard]] Status check_uplink(const UplinkOptions& options);

// Borrows host and spool for its life. Fails like check_uplink().
[[nodiscard]] Result<std::unique_ptr<Uplink>> start_uplink(const UplinkOptions& options, UplinkHost& host,
                                                           Spool& spool);

// The name that the controller gave this agent; nullopt before enrolment.
[[nodiscard]] std::optional<std::string> enrolled_agent_id(const std::string& state_dir);

} // namespace bulkhead::agent
