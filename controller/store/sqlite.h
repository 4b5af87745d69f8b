// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller/store/control_store.h"
#include "controller/store/record_store.h"

#include <memory>
#include <string>

namespace bulkhead::controller {

struct SqliteOptions {
    std::string path;
    std::uint64_t max_bytes = 0; // the database may grow no further; 0: as large as the disk
};

struct Stores {
    std::unique_ptr<ControlStore> control;
    std::unique_ptr<RecordStore> records;
};

// Opens or makes the database and brings its schema up to date. Fails (refused) when a newer version made it.
[[nodiscard]] Result<Stores> open_sqlite(const SqliteOptions& options);

} // namespace bulkhead::controller
