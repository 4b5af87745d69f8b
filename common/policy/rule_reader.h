// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/declared.h"
#include "common/policy/node_reader.h"

namespace bulkhead::policy {

// `selector:` and `labels:`. nullopt after a finding.
[[nodiscard]] std::optional<LabelSelector> read_selector(const NodeReader& reader, const YamlNode& node,
                                                         std::string_view what);
// `from:` and `to:`.
[[nodiscard]] std::optional<PeerRef> read_peer(const NodeReader& reader, const YamlNode& node, std::string_view side);

// `process:`.
[[nodiscard]] std::optional<ProcessCondition> read_process(const NodeReader& reader, const YamlNode& node);

// One item of `allow:` or `deny:`. nullopt when it is not worth resolving; there are findings then.
[[nodiscard]] std::optional<DeclaredRule> read_rule(const NodeReader& reader, const YamlNode& node, Action action);

} // namespace bulkhead::policy
