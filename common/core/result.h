// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <tl/expected.hpp>

#include <string>
#include <system_error>
#include <utility>

namespace bulkhead {

// What kind of failure; the programs map it to the exit codes that README promises.
enum class ErrorKind {
    failed,       // exit 1
    usage,        // exit 2
    invalid,      // exit 3: policy or configuration
    unreachable,  // exit 4: a peer
    refused,      // exit 5: not allowed, or a guard stopped it
};

// An expected failure: what was tried, on what, why it failed, and how to mend it if we know.
struct Error {
    ErrorKind kind = ErrorKind::failed;
    std::string message;
    std::string mend;

    // "controller: cannot connect" + "10.0.0.1:7443 refused" -> one line; keeps kind and mend.
    [[nodiscard]] Error within(std::string_view what) &&
    {
        message = fmt::format("{}: {}", what, message);
        return std::move(*this);
    }
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args)
{
    return tl::unexpected<Error>(Error{kind, fmt::format(format, std::forward<Args>(args)...), {}});
}

// "open /etc/x: No such file or directory", from errno.
[[nodiscard]] inline tl::unexpected<Error> fail_errno(int error_number, std::string_view what)
{
    return tl::unexpected<Error>(
        Error{ErrorKind::failed, fmt::format("{}: {}", what, std::generic_category().message(error_number)), {}});
}

[[nodiscard]] int exit_code(ErrorKind kind);

} // namespace bulkhead

// Evaluates to the value, or returns the error from the enclosing function.
#define BULKHEAD_CONCAT_(a, b) a##b
#define BULKHEAD_CONCAT(a, b) BULKHEAD_CONCAT_(a, b)
#define BULKHEAD_TRY_(name, declaration, expression)                                                                   \
    auto name = (expression);                                                                                          \
    if (!name)                                                                                                         \
        return tl::unexpected(std::move(name).error());                                                                \
    declaration = std::move(*name)
#define BULKHEAD_TRY(declaration, expression)                                                                          \
    BULKHEAD_TRY_(BULKHEAD_CONCAT(try_result_, __LINE__), declaration, expression)
#define BULKHEAD_CHECK(expression)                                                                                     \
    if (auto BULKHEAD_CONCAT(check_result_, __LINE__) = (expression); !BULKHEAD_CONCAT(check_result_, __LINE__))       \
    return tl::unexpected(std::move(BULKHEAD_CONCAT(check_result_, __LINE__)).error())
