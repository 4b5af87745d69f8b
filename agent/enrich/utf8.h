// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace bulkhead::agent {

// The text with each byte that is part of no UTF-8 character written as U+FFFD. Names of processes and files are bytes
// of anybody's choice, and a protobuf string that is no UTF-8 cannot be parsed by the receiver: such a name would
// make its own record disappear.
[[nodiscard]] std::string as_utf8(std::string_view bytes);

// UTF-8 of at most `most` bytes and an ellipsis, which stands for the end or for the beginning. Names may be as long as
// a path, each byte of them three of UTF-8, and one is in every record.
[[nodiscard]] std::string beginning_of(std::string text, std::size_t most);
[[nodiscard]] std::string end_of(std::string text, std::size_t most);

} // namespace bulkhead::agent
