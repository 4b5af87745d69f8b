// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/declared.h"
#include "common/policy/node_reader.h"

namespace bulkhead::policy {

// One YAML document: a segment, or definitions (services, addresses, workloads; any of them together).
void read_document(const NodeReader& reader, const YamlNode& node, Declared& declared);

} // namespace bulkhead::policy
