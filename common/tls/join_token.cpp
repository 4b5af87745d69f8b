// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls.h"

#include <openssl/evp.h>

#include <algorithm>
#include <string_view>

namespace bulkhead::tls {
namespace {

constexpr std::string_view prefix = "bulkhead-join-1.";
constexpr std::size_t fingerprint_digits = 64;
constexpr std::size_t max_secret_bytes = 256;

// RFC 4648, section 5, without padding.
std::string base64url_encode(const std::string& bytes)
{
    std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
    const int size =
        EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
    text.resize(static_cast<std::size_t>(size));
    std::replace(text.begin(), text.end(), '+', '-');
    std::replace(text.begin(), text.end(), '/', '_');
    text.erase(std::find(text.begin(), text.end(), '='), text.end());
    return text;
}

bool base64url_decode(std::string text, std::string& bytes)
{
    const auto is_digit = [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    };
    if (text.empty() || text.size() % 4 == 1 || !std::all_of(text.begin(), text.end(), is_digit))
        return false;
    std::replace(text.begin(), text.end(), '-', '+');
    std::replace(text.begin(), text.end(), '_', '/');
    const std::size_t padding = (4 - text.size() % 4) % 4;
    text.append(padding, '=');
    bytes.assign(text.size() / 4 * 3, '\0');
    const int size =
        EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
    if (size < 0)
        return false;
    bytes.resize(static_cast<std::size_t>(size) - padding); // EVP_DecodeBlock counts the padding as zero bytes
    return true;
}

} // namespace

std::string encode_join_token(const JoinToken& token)
{
    return fmt::format("{}{}.{}", prefix, base64url_encode(token.secret), token.ca_fingerprint);
}

Result<JoinToken> decode_join_token(const std::string& text)
{
    const auto malformed = [](std::string_view why) {
        return tl::unexpected<Error>(Error{ErrorKind::usage, fmt::format("join token: {}", why),
                                           "pass what `bulkheadctl agent token create` printed, whole and unchanged"});
    };
    const auto space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
    std::string_view rest = text; // a token from a file ends in a newline
    while (!rest.empty() && space(rest.back()))
        rest.remove_suffix(1);
    while (!rest.empty() && space(rest.front()))
        rest.remove_prefix(1);
    if (!rest.starts_with(prefix))
        return malformed(fmt::format("does not begin with '{}'", prefix));
    rest.remove_prefix(prefix.size());
    const auto dot = rest.find('.');
    if (dot == std::string_view::npos)
        return malformed("the controller's fingerprint is missing");
    JoinToken token;
    token.ca_fingerprint = rest.substr(dot + 1);
    const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
    if (token.ca_fingerprint.size() != fingerprint_digits ||
        !std::all_of(token.ca_fingerprint.begin(), token.ca_fingerprint.end(), is_hex))
        return malformed("the controller's fingerprint is not 64 lower-case hex digits");
    if (!base64url_decode(std::string(rest.substr(0, dot)), token.secret) || token.secret.size() > max_secret_bytes)
        return malformed("the secret is not base64url");
    return token;
}

} // namespace bulkhead::tls
