// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::cli {

// Whether a key of a configuration is named for a secret: password, join_token, ...
[[nodiscard]] bool names_a_secret(std::string_view key);

// Takes secrets out of text that leaves this host: private keys (PEM), join tokens, the values of keys that are named
// for a secret, and every secret that this host is known to hold, wherever it stands.
class SecretFilter {
public:
    // Remembers what is secret in the text of a file: the lines of private keys, join tokens.
    void learn(std::string_view text);
    [[nodiscard]] std::string clean(std::string_view text) const;
    // Leaves the values of keys alone: in a document, a line is no key and its value.
    [[nodiscard]] std::string clean_known(std::string_view text) const;

private:
    std::vector<std::string> known_;
};

} // namespace bulkhead::cli
