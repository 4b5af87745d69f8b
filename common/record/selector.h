// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/net/ip.h"
#include "record.pb.h"

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace bulkhead::record
{

// One end of a conversation, as `--from` and `--to` name it: `any`, an IP, a CIDR, `k=v,k=v` (all must hold; `k=*` asks
// only that the label is there), else the name of a workload or of a segment.
class EndpointSelector
{
public:
    // Errors: usage.
    [[nodiscard]] static Result<EndpointSelector> parse(const std::string& text);
    [[nodiscard]] bool matches(const v1::Endpoint& endpoint) const;

private:
    using Labels = std::map<std::string, std::string>;
    static Result<Labels> parse_labels(std::string_view text);

    // Exactly one of these is set; none of them: any.
    std::optional<Cidr> cidr_;
    Labels labels_;
    std::string name_;
};

} // namespace bulkhead::record
