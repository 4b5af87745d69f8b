// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace bulkhead::agent {

// The text with each byte that is part of no UTF-8 character written as U+FFFD. Names of processes and files are bytes
// of anybody's choice, and a protobuf string that is no UTF-8 cannot be parsed by the receiver: such a name would
// make its own record disappear.
[[nodiscard]] std::string as_utf8(std::string_view bytes);

} // namespace bulkhead::agent
