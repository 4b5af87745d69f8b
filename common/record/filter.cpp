// SPDX-License-Identifier: Apache-2.0
#include "common/record/filter.h"

#include "common/record/selector.h"

#include <fnmatch.h>

#include <algorithm>
#include <vector>

namespace bulkhead::record
{
namespace
{

bool glob(const std::string& pattern, const std::string& text)
{
    return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

// A pattern without a slash is about the program's name, as `ps -C` is.
bool process_matches(const std::string& pattern, const v1::Process& process)
{
    if (pattern.find('/') != std::string::npos)
        return glob(pattern, process.exe());
    const auto& exe = process.exe();
    const auto slash = exe.rfind('/');
    return glob(pattern, exe.empty() ? process.comm() : slash == std::string::npos ? exe : exe.substr(slash + 1));
}

template <typename List, typename Value>
bool holds(const List& wanted, const Value& value)
{
    return wanted.empty() || std::find(wanted.begin(), wanted.end(), value) != wanted.end();
}

template <typename List, typename Predicate>
bool some(const List& wanted, Predicate predicate)
{
    return wanted.empty() || std::any_of(wanted.begin(), wanted.end(), predicate);
}

class Filter
{
public:
    static Result<Filter> make(const v1::RecordFilter& message)
    {
        Filter filter;
        filter.message_ = message;
        for (const auto& text : message.from()) {
            BULKHEAD_TRY(auto selector, EndpointSelector::parse(text));
            filter.from_.push_back(std::move(selector));
        }
        for (const auto& text : message.to()) {
            BULKHEAD_TRY(auto selector, EndpointSelector::parse(text));
            filter.to_.push_back(std::move(selector));
        }
        for (const auto port : message.ports()) {
            if (port > 65535)
                return fail(ErrorKind::usage, "port {}: ports end at 65535", port);
        }
        for (const auto protocol : message.protocols()) {
            if (protocol > 255)
                return fail(ErrorKind::usage, "protocol {}: protocol numbers end at 255", protocol);
        }
        return filter;
    }

    [[nodiscard]] bool matches(const v1::Record& record) const
    {
        if (!holds(message_.kinds(), record.kind()) || !matches_host(record))
            return false;
        if (record.kind() == v1::Record::GAP && !message_.kinds().empty())
            return true;
        return holds(message_.verdicts(), record.verdict()) && holds(message_.directions(), record.direction()) &&
               holds(message_.protocols(), record.protocol()) && holds(message_.ports(), record.dst().port()) &&
               some(from_, [&](const auto& selector) { return selector.matches(record.src()); }) &&
               some(to_, [&](const auto& selector) { return selector.matches(record.dst()); }) &&
               matches_process(record.process());
    }

    [[nodiscard]] bool is_empty() const { return message_.ByteSizeLong() == 0; }

private:
    [[nodiscard]] bool matches_host(const v1::Record& record) const
    {
        return some(message_.hosts(), [&](const auto& pattern) { return glob(pattern, record.host()); });
    }
    [[nodiscard]] bool matches_process(const v1::Process& process) const
    {
        return some(message_.processes(), [&](const auto& pattern) { return process_matches(pattern, process); }) &&
               some(message_.units(), [&](const auto& pattern) { return glob(pattern, process.unit()); });
    }

    v1::RecordFilter message_;
    std::vector<EndpointSelector> from_, to_;
};

class QueryMatcher final : public RecordMatcher
{
public:
    QueryMatcher(Filter filter, std::vector<Filter> excludes, std::int64_t since_us, std::int64_t until_us)
        : filter_(std::move(filter)), excludes_(std::move(excludes)), since_us_(since_us), until_us_(until_us)
    {
    }

    [[nodiscard]] bool matches(const v1::Record& record) const override
    {
        if (since_us_ != 0 && record.time_us() < since_us_)
            return false;
        if (until_us_ != 0 && record.time_us() >= until_us_)
            return false;
        return filter_.matches(record) &&
               std::none_of(excludes_.begin(), excludes_.end(), [&](const auto& one) { return one.matches(record); });
    }

private:
    Filter filter_;
    std::vector<Filter> excludes_;
    std::int64_t since_us_, until_us_;
};

} // namespace

Result<std::unique_ptr<RecordMatcher>> make_matcher(const v1::RecordQuery& query)
{
    BULKHEAD_TRY(auto filter, Filter::make(query.filter()));
    std::vector<Filter> excludes;
    for (const auto& message : query.exclude()) {
        BULKHEAD_TRY(auto exclude, Filter::make(message));
        if (exclude.is_empty())
            return fail(ErrorKind::usage, "an exclusion without a condition would hide every record");
        excludes.push_back(std::move(exclude));
    }
    return std::make_unique<QueryMatcher>(std::move(filter), std::move(excludes), query.since_us(), query.until_us());
}

} // namespace bulkhead::record
