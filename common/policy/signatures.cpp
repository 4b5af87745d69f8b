// SPDX-License-Identifier: Apache-2.0
#include "common/policy/signatures.h"

#include <algorithm>
#include <iterator>
#include <string_view>

namespace bulkhead::policy {

SignatureTable::SignatureTable()
{
    intern({});
}

std::size_t SignatureTable::Hash::operator()(const Members& members) const noexcept
{
    return std::hash<std::string_view>{}(
        std::string_view(reinterpret_cast<const char*>(members.data()), members.size() * sizeof(members[0])));
}

SignatureTable::Id SignatureTable::intern(const Members& members)
{
    const auto [found, is_new] = ids_.try_emplace(members, static_cast<Id>(sets_.size()));
    if (is_new) {
        sets_.push_back(&found->first);
        weight_ += members.size();
    }
    return found->second;
}

SignatureTable::Id SignatureTable::unite(Id a, Id b)
{
    if (a == b || b == 0)
        return a;
    if (a == 0)
        return b;
    const auto key = static_cast<std::uint64_t>(std::min(a, b)) << 32 | std::max(a, b);
    if (const auto found = unions_.find(key); found != unions_.end())
        return found->second;
    Members both;
    std::set_union(sets_[a]->begin(), sets_[a]->end(), sets_[b]->begin(), sets_[b]->end(), std::back_inserter(both));
    const auto id = intern(both);
    unions_.emplace(key, id);
    return id;
}

} // namespace bulkhead::policy
