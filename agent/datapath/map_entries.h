// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/bpf.h>

#include "common/abi/bulkhead.h"

#include <cerrno>
#include <cstdint>
#include <vector>

namespace bulkhead::agent {

template <typename Key, typename Visit>
void for_each_key(int map, const Visit& visit)
{
    Key key{}, next{};
    for (const Key* previous = nullptr; bpf_map_get_next_key(map, previous, &next) == 0; previous = &key) {
        key = next;
        visit(key);
    }
}

inline bool is_over(const bh_exchange_key& key, const bh_exchange& exchange, std::uint64_t now)
{
    return now > exchange.last_ns && now - exchange.last_ns > BH_EXCHANGE_LONGEST_IDLE_NS(key);
}

// In batches, many entries a system call. What comes and goes meanwhile may be missed or seen twice. False: the kernel
// stopped before the end.
template <typename Key, typename Value, typename Visit>
bool for_each_entry(int map, const Visit& visit)
{
    constexpr __u32 batch = 1024;
    std::vector<Key> keys(batch);
    std::vector<Value> values(batch);
    Key position{};
    for (bool first = true;; first = false) {
        __u32 count = batch;
        Key next{};
        const int error =
            bpf_map_lookup_batch(map, first ? nullptr : &position, &next, keys.data(), values.data(), &count, nullptr);
        if (error != 0 && errno != ENOENT)
            return false;
        for (__u32 i = 0; i < count; ++i)
            visit(keys[i], values[i]);
        if (error != 0)
            return true;
        position = next;
    }
}

// Of an entry that was over when it was listed: it may have begun anew since.
template <typename Key, typename Value, typename IsOver>
void forget_if_still(int map, const Key& key, const IsOver& is_over)
{
    if (Value now{}; bpf_map_lookup_elem(map, &key, &now) == 0 && is_over(now))
        (void)bpf_map_delete_elem(map, &key);
}

} // namespace bulkhead::agent
