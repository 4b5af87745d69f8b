// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/libbpf_messages.h"

#include "common/core/log.h"

#include <bpf/libbpf.h>

#include <cstdarg>
#include <cstdio>
#include <exception>

namespace bulkhead::agent {

namespace {

thread_local LibbpfWarnings* receiver = nullptr;

constexpr std::size_t longest_logged = 16384; // of a verifier's log, which may have megabytes: its end
constexpr std::size_t longest_reason = 400;
constexpr std::string_view log_begins = "-- BEGIN PROG LOAD LOG --";
constexpr std::string_view log_ends = "-- END PROG LOAD LOG --";

std::string formatted(const char* format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    const int length = std::vsnprintf(nullptr, 0, format, again);
    va_end(again);
    if (length <= 0)
        return {};
    std::string text(static_cast<std::size_t>(length) + 1, '\0');
    (void)std::vsnprintf(text.data(), text.size(), format, arguments);
    text.resize(static_cast<std::size_t>(length));
    while (text.ends_with('\n'))
        text.pop_back();
    return text;
}

// Called from C, through which no exception may pass; a verifier's log can be too large for what memory there is.
int on_message(libbpf_print_level level, const char* format, va_list arguments) noexcept
try {
    const std::string text = formatted(format, arguments);
    const std::string_view all(text);
    log_debug("{}", all.size() > longest_logged ? all.substr(all.size() - longest_logged) : all);
    if (level == LIBBPF_WARN && receiver != nullptr)
        receiver->add(all);
    return static_cast<int>(text.size());
} catch (const std::exception&) {
    return 0;
}

} // namespace

void log_libbpf_messages()
{
    libbpf_set_print(on_message);
}

LibbpfWarnings::LibbpfWarnings() : before_(std::exchange(receiver, this)) {}

LibbpfWarnings::~LibbpfWarnings()
{
    receiver = before_;
}

void LibbpfWarnings::add(std::string_view message)
{
    if (reason_.empty())
        reason_ = reason_in_verifier_log(message).substr(0, longest_reason);
    if (first_.empty())
        first_ = message.substr(0, message.find('\n'));
}

std::string LibbpfWarnings::summary() const
{
    return reason_.empty() ? first_ : fmt::format("{}; the verifier says: {}", first_, reason_);
}

std::string_view reason_in_verifier_log(std::string_view message)
{
    const auto begin = message.find(log_begins);
    if (begin == std::string_view::npos)
        return {};
    auto log = message.substr(begin + log_begins.size());
    log = log.substr(0, log.find(log_ends));
    while (!log.empty()) {
        const auto before = log.rfind('\n');
        auto line = before == std::string_view::npos ? log : log.substr(before + 1);
        log = before == std::string_view::npos ? std::string_view() : log.substr(0, before);
        while (!line.empty() && (line.back() == ' ' || line.back() == '\r' || line.back() == '\t'))
            line.remove_suffix(1);
        // "processed N insns (limit ...)", and with more words of the log: "verification time N usec", "stack depth N".
        const bool statistics = line.starts_with("processed ") || line.starts_with("verification time ") ||
                                line.starts_with("stack depth ");
        if (!line.empty() && !statistics)
            return line;
    }
    return {};
}

} // namespace bulkhead::agent
