// SPDX-License-Identifier: Apache-2.0
#include "common/record/selector.h"

#include "common/wire/wire.h"

#include <algorithm>

namespace bulkhead::record
{
namespace
{

tl::unexpected<Error> bad(std::string_view text, std::string_view why, std::string mend)
{
    return tl::unexpected<Error>(
        Error{ErrorKind::usage, fmt::format("selector \"{}\": {}", text, why), std::move(mend)});
}

bool looks_like_address(std::string_view text)
{
    return text.find_first_of("/:") != std::string_view::npos ||
           (text.find('.') != std::string_view::npos &&
            text.find_first_not_of("0123456789.") == std::string_view::npos);
}

} // namespace

Result<EndpointSelector::Labels> EndpointSelector::parse_labels(std::string_view text)
{
    const auto whole = text;
    Labels labels;
    while (true) {
        const auto comma = text.find(',');
        const auto term = text.substr(0, comma);
        const auto equals = term.find('=');
        if (equals == std::string_view::npos || equals == 0)
            return bad(whole, fmt::format("\"{}\" is no key=value", term), "write key=value,key=value");
        const auto [place, fresh] =
            labels.emplace(std::string(term.substr(0, equals)), std::string(term.substr(equals + 1)));
        if (!fresh && place->second != term.substr(equals + 1))
            return bad(whole, fmt::format("label {} cannot have two values at once", place->first),
                       "repeat the option to match either value");
        if (comma == std::string_view::npos)
            return labels;
        text.remove_prefix(comma + 1);
    }
}

Result<EndpointSelector> EndpointSelector::parse(const std::string& text)
{
    if (text.empty())
        return bad(text, "empty", "give an IP, a CIDR, the name of a workload or segment, key=value,... or any");
    EndpointSelector selector;
    if (text == "any")
        return selector;
    if (text.find('=') != std::string::npos) {
        BULKHEAD_TRY(selector.labels_, parse_labels(text));
        return selector;
    }
    Cidr::ParseError error{};
    selector.cidr_ = Cidr::parse(text, &error);
    if (selector.cidr_)
        return selector;
    if (error == Cidr::ParseError::host_bits)
        return bad(text, "the prefix has bits set behind its length", "write the network's own address");
    if (looks_like_address(text))
        return bad(text, "no valid IP or CIDR", "write 10.0.0.7, 10.0.0.0/24 or 2001:db8::/32");
    selector.name_ = text;
    return selector;
}

bool EndpointSelector::matches(const v1::Endpoint& endpoint) const
{
    if (cidr_) {
        const auto address = wire::address_from_wire(endpoint.ip());
        return address && cidr_->contains(*address);
    }
    if (!name_.empty())
        return endpoint.workload() == name_ ||
               std::find(endpoint.segments().begin(), endpoint.segments().end(), name_) != endpoint.segments().end();
    return std::all_of(labels_.begin(), labels_.end(), [&](const auto& term) {
        const auto found = endpoint.labels().find(term.first);
        return found != endpoint.labels().end() && (term.second == "*" || found->second == term.second);
    });
}

} // namespace bulkhead::record
