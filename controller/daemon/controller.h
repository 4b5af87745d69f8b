// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/core/result.h"
#include "controller/daemon/config.h"

#include <memory>
#include <string>

namespace bulkhead::controller {

// A whole controller: state folder, store, authority, threads and server. start() makes what is missing; the destructor
// stops in order: no new calls, streams closed, records stored. require_tls13() must have been called before.
class Controller {
public:
    [[nodiscard]] static Result<std::unique_ptr<Controller>> start(const ControllerConfig& config, const Clock& clock);
    ~Controller();
    Controller(const Controller&) = delete;
    Controller& operator=(const Controller&) = delete;

    [[nodiscard]] int port() const;
    [[nodiscard]] std::string address() const;    // where this host's programs reach it, HOST:PORT
    [[nodiscard]] std::string admin_file() const; // STATE/admin.yaml
    [[nodiscard]] bool made_admin() const;        // that file was written by this start

    // Renews the controller's certificate when it is due; call now and then.
    void look_after_certificate();

private:
    struct Parts;
    explicit Controller(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
};

} // namespace bulkhead::controller
