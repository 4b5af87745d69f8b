// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/tls/authority.h"
#include "controller/enrol/state_dir.h"

#include <optional>
#include <string>
#include <vector>

namespace bulkhead::controller {

// The controller's keys on disk: ca.pem (the authority's key and certificate in one file, so never one without the
// other), ca.crt, controller.key, controller.crt (with the authority behind it), admin.yaml. What a crash left out is
// made up for at the next start.
class Credentials {
public:
    // Makes the authority at the very first start. Fails when it is gone while things that it signed are still there.
    [[nodiscard]] static Result<Credentials> open(const StateDir& state, const Clock& clock,
                                                  std::vector<std::string> host_names,
                                                  std::vector<std::string> ip_names);

    [[nodiscard]] const tls::KeyAndCertificate& authority() const { return authority_; }
    [[nodiscard]] std::string authority_file() const { return state_->path("ca.crt"); }
    [[nodiscard]] std::string key_file() const { return state_->path("controller.key"); }
    [[nodiscard]] std::string certificate_file() const { return state_->path("controller.crt"); }

    // A new controller certificate for the same key when a third of its time is left. True: the file was replaced.
    Result<bool> renew_if_due();

    // Writes admin.yaml when there is none whose certificate lives another month. True: it was written.
    Result<bool> provide_admin(const std::string& controller_address);

private:
    Credentials(const StateDir& state, const Clock& clock) : state_(&state), clock_(&clock) {}
    Status provide_authority();
    Result<std::optional<tls::KeyAndCertificate>> read_controller() const;
    Result<std::optional<std::chrono::system_clock::time_point>> admin_expiry() const;
    [[nodiscard]] std::chrono::system_clock::time_point now() const;

    const StateDir* state_;
    const Clock* clock_;
    std::vector<std::string> host_names_, ip_names_;
    tls::KeyAndCertificate authority_;
};

} // namespace bulkhead::controller
