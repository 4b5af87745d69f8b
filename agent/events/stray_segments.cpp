// SPDX-License-Identifier: Apache-2.0
#include "agent/events/stray_segments.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <utility>

namespace bulkhead::agent {
namespace {

constexpr auto lately = std::chrono::seconds(60); // TIME_WAIT on Linux, and then some retransmissions
constexpr auto keep_for = std::chrono::hours(8);  // the longest that common servers leave a connection idle
constexpr auto generation_lasts = std::chrono::seconds(5);
constexpr auto old_generation_lasts = std::chrono::minutes(15); // so that there are few to look through
constexpr std::size_t max_generation = 16384;
constexpr std::size_t max_kept = 131072;

// The last step of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): every bit of
// what comes in moves half of those that go out.
std::uint64_t mix(std::uint64_t word)
{
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9ULL;
    word = (word ^ word >> 27) * 0x94d049bb133111ebULL;
    return word ^ word >> 31;
}

std::uint64_t random_word()
{
    std::random_device device;
    return static_cast<std::uint64_t>(device()) << 32 | device();
}

} // namespace

StraySegments::StraySegments() : secret_(random_word()) {}

std::uint64_t StraySegments::digest(const FlowTuple& tuple) const
{
    std::uint64_t words[6];
    std::memcpy(words, tuple.local.bytes.data(), 16);
    std::memcpy(words + 2, tuple.remote.bytes.data(), 16);
    words[4] = static_cast<std::uint64_t>(tuple.local_port) << 32 |
               static_cast<std::uint64_t>(tuple.remote_port) << 16 | tuple.protocol;
    words[5] = tuple.netns;
    std::uint64_t result = secret_;
    for (const auto word : words)
        result = mix(result ^ word) + secret_;
    return std::max<std::uint64_t>(result, 1);
}

std::size_t StraySegments::Digests::slot_of(std::uint64_t digest) const
{
    std::size_t slot = digest & (slots_.size() - 1);
    while (slots_[slot] != 0 && slots_[slot] != digest)
        slot = (slot + 1) & (slots_.size() - 1);
    return slot;
}

bool StraySegments::Digests::contains(std::uint64_t digest) const
{
    return slots_[slot_of(digest)] == digest;
}

bool StraySegments::Digests::insert(std::uint64_t digest)
{
    const auto slot = slot_of(digest);
    if (slots_[slot] == digest)
        return false;
    slots_[slot] = digest;
    ++size_;
    if (size_ <= slots_.size() / 4 * 3)
        return true;
    const auto before = std::exchange(slots_, std::vector<std::uint64_t>(2 * slots_.size()));
    for (const auto one : before)
        if (one != 0)
            slots_[slot_of(one)] = one;
    return true;
}

void StraySegments::Digests::insert_all(const Digests& others)
{
    for (const auto one : others.slots_)
        if (one != 0)
            insert(one);
}

void StraySegments::ended(const FlowTuple& tuple, MonotonicTime now)
{
    expire(now);
    if (generations_.empty() || now - generations_.back().first > generation_lasts ||
        generations_.back().digests.size() >= max_generation)
        generations_.push_back({now, now});
    generations_.back().last = now;
    if (generations_.back().digests.insert(digest(tuple)))
        ++kept_;
    while (kept_ > max_kept)
        forget_oldest();
}

bool StraySegments::is_tail(const FlowTuple& tuple, MonotonicTime now, bool heard) const
{
    const auto wanted = digest(tuple);
    const MonotonicTime longest = heard ? lately : keep_for;
    return std::any_of(generations_.begin(), generations_.end(), [&](const Generation& generation) {
        return now - generation.last <= longest && generation.digests.contains(wanted);
    });
}

void StraySegments::forget_oldest()
{
    kept_ -= generations_.front().digests.size();
    generations_.pop_front();
}

void StraySegments::expire(MonotonicTime now)
{
    while (!generations_.empty() && now - generations_.front().last > keep_for)
        forget_oldest();
    join_old(now);
}

void StraySegments::join_old(MonotonicTime now)
{
    for (std::size_t i = 0; i + 1 < generations_.size() && now - generations_[i + 1].last > lately;) {
        auto& older = generations_[i];
        const auto& younger = generations_[i + 1];
        const auto together = older.digests.size() + younger.digests.size();
        if (younger.last - older.first > old_generation_lasts || together > max_generation) {
            ++i;
            continue;
        }
        older.digests.insert_all(younger.digests);
        older.last = younger.last;
        kept_ -= together - older.digests.size(); // which were in both
        generations_.erase(generations_.begin() + static_cast<std::ptrdiff_t>(i + 1));
    }
}

} // namespace bulkhead::agent
