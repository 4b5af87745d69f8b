// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "controller.pb.h"
#include "local.pb.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace bulkhead::agent {

// Answers GET /metrics over plain HTTP, until it goes. There is nothing to authenticate by: bind it to loopback or to a
// network of the operators.
class MetricsServer {
public:
    virtual ~MetricsServer() = default;
};

// `ask` is called from the server's threads; nullopt: there is no answer any more.
[[nodiscard]] Result<std::unique_ptr<MetricsServer>> serve_metrics(const std::string& listen,
                                                                   std::function<std::optional<v1::LocalStatus>()> ask);

} // namespace bulkhead::agent
