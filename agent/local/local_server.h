// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/events/flow_assembler.h"
#include "agent/local/map_words.h"
#include "agent/spool/spool.h"
#include "common/core/result.h"
#include "local.pb.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace bulkhead::agent {

// What the local socket may ask. Called from the server's threads; nullopt: the agent is stopping.
struct LocalQuestions {
    std::function<std::optional<v1::LocalStatus>()> status;
    std::function<std::shared_ptr<const PolicyView>()> view; // null: none
    std::function<std::optional<Result<v1::LocalStatus>>(const v1::LocalQuarantine&)> set_quarantine;
    std::function<std::optional<KernelContents>()> maps{};
};

// The gRPC service v1.Local on a Unix socket of mode 0600. Destroying it ends every stream and removes the socket.
class LocalServer {
public:
    virtual ~LocalServer() = default;
};

// Makes the socket's folder. A socket that nobody listens on is replaced; one that answers is refused. Borrows spool.
[[nodiscard]] Result<std::unique_ptr<LocalServer>> serve_local(const std::string& socket, LocalQuestions questions,
                                                               Spool& spool);

} // namespace bulkhead::agent
