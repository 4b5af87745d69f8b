// SPDX-License-Identifier: Apache-2.0
#include "common/policy/label_index.h"

#include <algorithm>
#include <numeric>

namespace bulkhead::policy {
namespace {

template <typename Map>
void append_found(std::vector<std::uint32_t>& out, const Map& map, const std::string& key)
{
    if (const auto found = map.find(key); found != map.end())
        out.insert(out.end(), found->second.begin(), found->second.end());
}

} // namespace

IdentityIndex::IdentityIndex(const std::vector<Identity>& identities) : identities_(identities)
{
    for (std::uint32_t i = 0; i < identities.size(); ++i) {
        for (const auto& [key, value] : identities[i].labels) {
            by_key_[key].push_back(i);
            by_label_[key][value].push_back(i);
        }
        if (!identities[i].named_workload.empty())
            by_name_[identities[i].named_workload].push_back(i);
    }
}

// The shortest list that one term alone leaves.
IdentityIndex::Positions IdentityIndex::candidates(const LabelSelector& selector) const
{
    if (selector.terms.empty()) {
        Positions all(identities_.size());
        std::iota(all.begin(), all.end(), 0U);
        return all;
    }
    Positions best;
    bool first = true;
    for (const auto& [key, values] : selector.terms) {
        Positions found;
        if (values.empty())
            append_found(found, by_key_, key);
        else if (const auto of_key = by_label_.find(key); of_key != by_label_.end())
            for (const auto& value : values)
                append_found(found, of_key->second, value);
        if (first || found.size() < best.size())
            best = std::move(found);
        first = false;
    }
    return best;
}

std::vector<IdentityId> IdentityIndex::matching(const LabelSelector& selector) const
{
    std::vector<IdentityId> ids;
    for (const auto position : candidates(selector))
        if (selector.matches(identities_[position].labels))
            ids.push_back(identities_[position].id);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
}

std::vector<IdentityId> IdentityIndex::named(const std::string& workload) const
{
    std::vector<IdentityId> ids;
    if (const auto found = by_name_.find(workload); found != by_name_.end())
        for (const auto position : found->second)
            ids.push_back(identities_[position].id);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    return ids;
}

SegmentIndex::SegmentIndex(const std::vector<Segment>& segments) : segments_(segments)
{
    for (std::uint32_t i = 0; i < segments.size(); ++i) {
        const auto& terms = segments[i].selector.terms;
        const auto valued = std::find_if(terms.begin(), terms.end(), [](const auto& t) { return !t.second.empty(); });
        if (valued != terms.end())
            for (const auto& value : valued->second)
                by_label_[valued->first][value].push_back(i);
        else if (!terms.empty())
            by_key_[terms.begin()->first].push_back(i);
        else
            unconditional_.push_back(i);
    }
}

std::vector<const Segment*> SegmentIndex::containing(const Labels& labels) const
{
    auto candidates = unconditional_;
    for (const auto& [key, value] : labels) {
        append_found(candidates, by_key_, key);
        if (const auto of_key = by_label_.find(key); of_key != by_label_.end())
            append_found(candidates, of_key->second, value);
    }
    std::sort(candidates.begin(), candidates.end());
    candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
    std::vector<const Segment*> found;
    for (const auto i : candidates)
        if (segments_[i].selector.matches(labels))
            found.push_back(&segments_[i]);
    std::sort(found.begin(), found.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
    return found;
}

} // namespace bulkhead::policy
