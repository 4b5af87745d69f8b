// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller.grpc.pb.h"
#include "controller/ingest/ingest_writer.h"
#include "controller/inventory/inventory.h"

#include <grpcpp/grpcpp.h>

namespace bulkhead::controller {

using IngestReactor = grpc::ServerBidiReactor<v1::RecordBatch, v1::IngestAck>;

// The gRPC end of one agent's records: one batch is read, stored and acknowledged before the next is read. Deletes
// itself.
[[nodiscard]] IngestReactor* open_ingest(std::string agent_id, const Inventory& inventory, IngestWriter& writer);
[[nodiscard]] IngestReactor* refuse_ingest(const grpc::Status& status);

} // namespace bulkhead::controller
