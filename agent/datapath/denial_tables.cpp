// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/denial_tables.h"

#include "agent/datapath/map_entries.h"

#include <bpf/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>

namespace bulkhead::agent {

namespace {

// Of entries that one bpf(2) call copies.
constexpr std::uint32_t batch_size = 4096;

bool is_empty(int table)
{
    bh_denial_key first{};
    return bpf_map_get_next_key(table, nullptr, &first) != 0;
}

std::uint8_t protocol_of_rest(std::uint32_t index)
{
    static constexpr std::uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6,
                                                 BH_PROTOCOL_OTHER};
    static_assert(std::size(protocols) == BH_DENIAL_REST_PROTOCOLS);
    return protocols[index / 2 % BH_DENIAL_REST_PROTOCOLS];
}

// What is known of attempts that are only counted.
bh_denial denial_of_rest(std::uint32_t index)
{
    const bool denied = index % 2 == 0;
    bh_denial denial{};
    denial.first.type = BH_EVENT_DENY;
    denial.first.several = BH_SEVERAL_PEERS;
    denial.first.direction = static_cast<__u8>(index / 2 / BH_DENIAL_REST_PROTOCOLS);
    denial.first.protocol = protocol_of_rest(index);
    denial.first.verdict = denied ? BH_DENIED : BH_ALLOWED;
    denial.first.shadow_verdict = denied ? BH_ALLOWED : BH_DENIED;
    return denial;
}

std::vector<bh_denial_rest> cpus()
{
    return std::vector<bh_denial_rest>(static_cast<std::size_t>(libbpf_num_possible_cpus()));
}

} // namespace

DenialTables::DenialTables(const ::datapath& skeleton)
    : maps_{bpf_map__fd(skeleton.maps.bh_denials_even), bpf_map__fd(skeleton.maps.bh_denials_odd),
            bpf_map__fd(skeleton.maps.bh_denials), bpf_map__fd(skeleton.maps.bh_denial_turn),
            bpf_map__fd(skeleton.maps.bh_denials_rest)}
{}

Status DenialTables::take(const Datapath::DenialSink& sink) const
{
    const __u32 zero = 0;
    bh_denial_turn now{};
    if (bpf_map_lookup_elem(maps_.turn, &zero, &now) != 0)
        return fail_errno(errno, "read whose turn it is to count denials");
    if (now.turn > 0 && now.reported == 0) { // an agent died between the change and here
        BULKHEAD_CHECK(wait_for_writers(now.turn - 1));
        BULKHEAD_CHECK(report(now.turn - 1, sink));
        now.reported = 1;
        BULKHEAD_CHECK(write_turn(now));
    }
    if (is_empty(maps_.even) && is_empty(maps_.odd) && rest_of(now.turn).empty())
        return {};
    BULKHEAD_CHECK(empty(now.turn + 1));
    BULKHEAD_CHECK(write_turn({now.turn + 1, 0}));
    BULKHEAD_CHECK(wait_for_writers(now.turn));
    BULKHEAD_CHECK(report(now.turn, sink));
    return write_turn({now.turn + 1, 1});
}

std::vector<bh_denial> DenialTables::look() const
{
    std::vector<bh_denial> denials;
    const __u32 zero = 0;
    bh_denial_turn now{};
    if (bpf_map_lookup_elem(maps_.turn, &zero, &now) == 0)
        for_each_entry<bh_denial_key, bh_denial>(
            table(now.turn), [&](const bh_denial_key&, const bh_denial& denial) { denials.push_back(denial); });
    return denials;
}

Status DenialTables::write_turn(const bh_denial_turn& turn) const
{
    const __u32 zero = 0;
    if (bpf_map_update_elem(maps_.turn, &zero, &turn, BPF_ANY) != 0)
        return fail_errno(errno, "change whose turn it is to count denials");
    return {};
}

// The table of a turn that is to come. Nobody counts in it; programs only ask whether it has a key.
Status DenialTables::empty(std::uint32_t turn) const
{
    std::vector<bh_denial_key> keys(batch_size);
    std::vector<bh_denial> values(batch_size);
    while (!is_empty(table(turn))) {
        std::uint32_t position = 0, count = batch_size;
        if (bpf_map_lookup_and_delete_batch(table(turn), nullptr, &position, keys.data(), values.data(), &count,
                                            nullptr) != 0 &&
            errno != ENOENT)
            return fail_errno(errno, "empty a table of denials");
    }
    const auto nothing = cpus();
    for (std::uint32_t i = 0; i < BH_DENIAL_REST; ++i) {
        const std::uint32_t index = (turn & 1) * BH_DENIAL_REST + i;
        if (bpf_map_update_elem(maps_.rest, &index, nothing.data(), BPF_ANY) != 0)
            return fail_errno(errno, "clear the rest of the denials");
    }
    return {};
}

// As in PlaneSlots::wait_for_readers: a change of a map of maps, though it changes nothing, returns when every program
// that was running has ended.
Status DenialTables::wait_for_writers(std::uint32_t turn) const
{
    const std::uint32_t slot = turn & 1;
    const int same = table(turn);
    if (bpf_map_update_elem(maps_.outer, &slot, &same, BPF_ANY) != 0)
        return fail_errno(errno, "wait for programs that count denials");
    return {};
}

Status DenialTables::report(std::uint32_t turn, const Datapath::DenialSink& sink) const
{
    std::vector<bh_denial_key> keys(batch_size);
    std::vector<bh_denial> values(batch_size);
    std::uint32_t position = 0;
    const std::uint32_t* after = nullptr;
    for (bool more = true; more; after = &position) {
        std::uint32_t count = batch_size;
        auto from = after == nullptr ? 0 : *after;
        if (bpf_map_lookup_batch(table(turn), after == nullptr ? nullptr : &from, &position, keys.data(), values.data(),
                                 &count, nullptr) != 0) {
            if (errno != ENOENT)
                return fail_errno(errno, "read the denials");
            more = false;
        }
        const auto counted = std::remove_if(values.begin(), values.begin() + count,
                                            [](const bh_denial& denial) { return denial.count == 0; });
        sink({values.begin(), counted});
    }
    sink(rest_of(turn));
    return {};
}

std::vector<bh_denial> DenialTables::rest_of(std::uint32_t turn) const
{
    std::vector<bh_denial> found;
    auto of_cpus = cpus();
    for (std::uint32_t i = 0; i < BH_DENIAL_REST; ++i) {
        const std::uint32_t index = (turn & 1) * BH_DENIAL_REST + i;
        if (bpf_map_lookup_elem(maps_.rest, &index, of_cpus.data()) != 0)
            continue;
        bh_denial sum = denial_of_rest(i);
        for (const auto& one : of_cpus) {
            if (one.count == 0)
                continue;
            sum.since_ns = sum.count == 0 ? one.since_ns : std::min(sum.since_ns, one.since_ns);
            sum.last_ns = std::max(sum.last_ns, one.last_ns);
            sum.count += one.count;
        }
        if (sum.count > 0)
            found.push_back(sum);
    }
    return found;
}

} // namespace bulkhead::agent
