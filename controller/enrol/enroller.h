// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/tls/authority.h"
#include "controller.pb.h"
#include "controller/inventory/inventory.h"

#include <functional>
#include <string>

namespace bulkhead::controller {

// Makes tokens, turns tokens into agents and renews their certificates. Thread-safe.
class Enroller {
public:
    Enroller(ControlStore& store, Inventory& inventory, const tls::KeyAndCertificate& authority, const Clock& clock)
        : store_(store), inventory_(inventory), authority_(authority), clock_(clock)
    {}

    // Agent ids that an enrolment has replaced, and that the inventory changed.
    using Listener = std::function<void(const std::vector<std::string>& replaced)>;
    void on_enrolment(Listener listener) { listener_ = std::move(listener); }

    // Usage error when a limit or a label is out of bounds; 0 means the default: one hour, one use.
    Result<v1::CreateTokenReply> create_token(const v1::CreateTokenRequest& request, const std::string& actor);
    // Refused when the token is not valid or the request not well-formed.
    Result<v1::EnrolReply> enrol(const v1::EnrolRequest& request);
    Result<v1::EnrolReply> renew(const std::string& agent_id, const v1::RenewRequest& request);

private:
    Result<v1::EnrolReply> certify(const std::string& agent_id, const std::string& csr_pem) const;

    ControlStore& store_;
    Inventory& inventory_;
    const tls::KeyAndCertificate& authority_;
    const Clock& clock_;
    Listener listener_;
};

} // namespace bulkhead::controller
