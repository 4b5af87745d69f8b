// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller.grpc.pb.h"
#include "controller/distribute/distributor.h"

#include <grpcpp/grpcpp.h>

namespace bulkhead::controller {

using SessionReactor = grpc::ServerBidiReactor<v1::AgentMessage, v1::ControllerMessage>;

// The gRPC end of one agent's session. Deletes itself when the call is over, as gRPC's callback API wants it.
[[nodiscard]] SessionReactor* open_session(std::string agent_id, Distributor& distributor);
// A call that is answered with an error at once.
[[nodiscard]] SessionReactor* refuse_session(const grpc::Status& status);

} // namespace bulkhead::controller
