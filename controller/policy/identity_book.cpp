// SPDX-License-Identifier: Apache-2.0
#include "controller/policy/identity_book.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

// Lengths before the parts, so that no two label sets are written alike.
std::string key_of(const policy::Labels& labels, const std::string& named_workload)
{
    std::string key = fmt::format("{}:{}", named_workload.size(), named_workload);
    for (const auto& [name, value] : labels)
        key += fmt::format("{}:{}{}:{}", name.size(), name, value.size(), value);
    return key;
}

} // namespace

Result<IdentityBook> IdentityBook::load(ControlStore& store)
{
    BULKHEAD_TRY(const auto known, store.identities());
    IdentityBook book(store);
    for (const auto& identity : known) {
        book.numbers_[identity.key] = identity.id;
        book.next_ = std::max(book.next_, identity.id + 1);
    }
    return book;
}

policy::IdentityId IdentityBook::number(const policy::Labels& labels, const std::string& named_workload)
{
    auto key = key_of(labels, named_workload);
    const auto [position, is_new] = numbers_.try_emplace(key, next_);
    if (is_new)
        pending_.push_back({next_++, std::move(key)});
    return position->second;
}

Status IdentityBook::keep()
{
    if (pending_.empty())
        return {};
    BULKHEAD_CHECK(store_->add_identities(pending_));
    pending_.clear();
    return {};
}

void IdentityBook::forget()
{
    if (pending_.empty())
        return;
    next_ = pending_.front().id;
    for (const auto& identity : pending_)
        numbers_.erase(identity.key);
    pending_.clear();
}

} // namespace bulkhead::controller
