// SPDX-License-Identifier: Apache-2.0
#include "common/core/timestamp.h"

#include <chrono>

namespace bulkhead {
namespace {

// Takes what it reads off the front of `text`.
class Reader {
public:
    explicit Reader(std::string_view text) : text_(text) {}

    std::optional<unsigned> digits(std::size_t count)
    {
        if (text_.size() < count)
            return std::nullopt;
        unsigned value = 0;
        for (const char c : text_.substr(0, count)) {
            if (c < '0' || c > '9')
                return std::nullopt;
            value = value * 10 + static_cast<unsigned>(c - '0');
        }
        text_.remove_prefix(count);
        return value;
    }

    bool one_of(std::string_view characters, char* which = nullptr)
    {
        if (text_.empty() || characters.find(text_.front()) == std::string_view::npos)
            return false;
        if (which != nullptr)
            *which = text_.front();
        text_.remove_prefix(1);
        return true;
    }

    std::optional<std::int64_t> fraction_micros()
    {
        std::int64_t value = 0;
        std::int64_t weight = 100'000;
        std::size_t count = 0;
        for (; count < text_.size() && text_[count] >= '0' && text_[count] <= '9'; ++count) {
            value += weight * (text_[count] - '0');
            weight /= 10;
        }
        text_.remove_prefix(count);
        return count == 0 ? std::nullopt : std::optional(value);
    }

    [[nodiscard]] bool at_end() const { return text_.empty(); }

private:
    std::string_view text_;
};

std::optional<std::chrono::sys_days> read_date(Reader& reader)
{
    const auto year = reader.digits(4);
    const bool first = reader.one_of("-");
    const auto month = reader.digits(2);
    const bool second = reader.one_of("-");
    const auto day = reader.digits(2);
    if (!year || !first || !month || !second || !day)
        return std::nullopt;
    const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)), std::chrono::month(*month),
                                           std::chrono::day(*day)};
    return date.ok() ? std::optional<std::chrono::sys_days>(date) : std::nullopt;
}

std::optional<std::int64_t> read_time_of_day(Reader& reader)
{
    const auto hour = reader.digits(2);
    const bool first = reader.one_of(":");
    const auto minute = reader.digits(2);
    const bool second = reader.one_of(":");
    const auto seconds = reader.digits(2);
    // 60: a leap second, which the clock of this system counts as the first of the next minute
    if (!hour || !first || !minute || !second || !seconds || *hour > 23 || *minute > 59 || *seconds > 60)
        return std::nullopt;
    std::int64_t micros = (std::int64_t{*hour} * 3600 + *minute * 60 + *seconds) * 1'000'000;
    if (reader.one_of(".")) {
        const auto fraction = reader.fraction_micros();
        if (!fraction)
            return std::nullopt;
        micros += *fraction;
    }
    return micros;
}

std::optional<std::int64_t> read_offset(Reader& reader)
{
    char sign = 0;
    if (reader.one_of("Zz"))
        return 0;
    if (!reader.one_of("+-", &sign))
        return std::nullopt;
    const auto hour = reader.digits(2);
    const bool colon = reader.one_of(":");
    const auto minute = reader.digits(2);
    if (!hour || !colon || !minute || *hour > 23 || *minute > 59)
        return std::nullopt;
    const std::int64_t micros = (std::int64_t{*hour} * 3600 + *minute * 60) * 1'000'000;
    return sign == '-' ? -micros : micros;
}

} // namespace

std::optional<std::int64_t> parse_rfc3339_micros(std::string_view text)
{
    Reader reader(text);
    const auto date = read_date(reader);
    if (!date || !reader.one_of("Tt "))
        return std::nullopt;
    const auto time = read_time_of_day(reader);
    if (!time)
        return std::nullopt;
    const auto offset = read_offset(reader);
    if (!offset || !reader.at_end())
        return std::nullopt;
    const auto days = std::chrono::duration_cast<std::chrono::microseconds>(date->time_since_epoch()).count();
    return days + *time - *offset;
}

} // namespace bulkhead
