// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "controller.grpc.pb.h"
#include "controller/distribute/distributor.h"
#include "controller/enrol/enroller.h"
#include "controller/ingest/ingest_writer.h"
#include "controller/inventory/inventory.h"
#include "controller/policy/policy_book.h"
#include "controller/store/record_store.h"

#include <grpcpp/grpcpp.h>

#include <memory>

namespace bulkhead::controller {

// What the handlers use; owned by the daemon, which outlives them.
struct ApiParts {
    ControlStore& control;
    RecordStore& records;
    Inventory& inventory;
    PolicyBook& book;
    Distributor& distributor;
    Enroller& enroller;
    IngestWriter& writer;
    RecordFeed& feed;
    const Clock& clock;
};

[[nodiscard]] std::unique_ptr<grpc::Service> make_enrolment_service(ApiParts parts); // for callers without certificate
[[nodiscard]] std::unique_ptr<grpc::Service> make_agents_service(ApiParts parts);    // role agent
[[nodiscard]] std::unique_ptr<grpc::Service> make_admin_service(ApiParts parts);     // role admin

} // namespace bulkhead::controller
