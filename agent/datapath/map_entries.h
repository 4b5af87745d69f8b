// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/bpf.h>

#include <cerrno>
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

} // namespace bulkhead::agent
