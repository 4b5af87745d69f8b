// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"

#include <chrono>
#include <optional>
#include <string>

namespace bulkhead::agent {

// STATE/agent.pem (key, then certificate, mode 0600: one file, so that the two always belong together) and
// STATE/ca.pem.
struct Credentials {
    std::string key_pem, certificate_pem, ca_pem;
    std::string agent_id; // the certificate's common name
    std::chrono::system_clock::time_point not_before, not_after;

    // When two thirds of its life are over.
    [[nodiscard]] std::chrono::system_clock::time_point renew_at() const
    {
        return not_before + (not_after - not_before) / 3 * 2;
    }
};

// nullopt when the host is not enrolled.
[[nodiscard]] Result<std::optional<Credentials>> load_credentials(const std::string& state_dir);
// Saves, and returns what was saved.
[[nodiscard]] Result<Credentials> save_credentials(const std::string& state_dir, const std::string& key_pem,
                                                   const std::string& certificate_pem, const std::string& ca_pem);

} // namespace bulkhead::agent
