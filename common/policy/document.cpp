// SPDX-License-Identifier: Apache-2.0
#include "common/policy/document.h"

#include <fmt/format.h>

#include <algorithm>

namespace bulkhead::policy {

std::string SourceRef::to_string() const
{
    if (!file)
        return {};
    return line == 0 ? *file : fmt::format("{}:{}:{}", *file, line, column);
}

std::string Diagnostic::to_string() const
{
    const auto place = where.to_string();
    auto text = place.empty() ? fmt::format("error: {}", message) : fmt::format("{}: error: {}", place, message);
    if (!mend.empty())
        text += "\n    mend: " + mend;
    return text;
}

bool LabelSelector::matches(const Labels& labels) const
{
    return std::all_of(terms.begin(), terms.end(), [&labels](const auto& term) {
        const auto& [key, values] = term;
        const auto label = labels.find(key);
        return label != labels.end() &&
               (values.empty() || std::find(values.begin(), values.end(), label->second) != values.end());
    });
}

const Segment* PolicySet::find_segment(std::string_view name) const
{
    const auto found = std::lower_bound(segments.begin(), segments.end(), name,
                                        [](const Segment& segment, std::string_view n) { return segment.name < n; });
    return found != segments.end() && found->name == name ? &*found : nullptr;
}

} // namespace bulkhead::policy
