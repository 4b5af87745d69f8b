// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "controller/store/database.h"

namespace bulkhead::controller {

// Runs what is missing, each step in a transaction of its own, and notes it in the table `migrations`. Fails (refused)
// when the database has a step that this program does not know.
Status migrate(Connection& connection);

} // namespace bulkhead::controller
