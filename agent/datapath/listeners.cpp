// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/listeners.h"

#include "agent/datapath/map_entries.h"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

namespace bulkhead::agent {

namespace {

struct KeyLess {
    bool operator()(const bh_listener_key& a, const bh_listener_key& b) const
    {
        return std::memcmp(&a, &b, sizeof(a)) < 0; // no padding: sizeof is asserted as the sum of the members
    }
};

using Listeners = std::map<bh_listener_key, bh_listener, KeyLess>;

bool is_listener(const bh_walked_socket& socket)
{
    if (socket.protocol == IPPROTO_TCP)
        return socket.state == TCP_LISTEN;
    return socket.protocol == IPPROTO_UDP && socket.state != TCP_ESTABLISHED && socket.local_port != 0;
}

bool same_kind(const bh_subject& a, const bh_subject& b)
{
    return a.cgroup_id == b.cgroup_id && a.exe_inode == b.exe_inode && a.exe_device == b.exe_device && a.uid == b.uid;
}

void add(Listeners& listeners, const WalkedSocket& walked, CgroupTree& cgroups, std::chrono::nanoseconds now)
{
    const bh_listener_key key{walked.socket.local, walked.socket.local_port, walked.socket.protocol, 0,
                              walked.socket.netns};
    bh_listener listener{};
    listener.cookie = walked.socket.cookie;
    listener.since_ns = static_cast<__u64>(now.count());
    listener.state = BH_LISTENER_LISTENING;
    listener.v6only = walked.socket.v6only;
    listener.owner = walked.owner;
    listener.holder = static_cast<__u8>(bh_holder_of(walked.socket.uid));
    listener.cgroups = cgroups.enclosing(walked.owner.pid != 0 ? walked.owner.cgroup_id : walked.socket.cgroup_id);
    const auto [found, inserted] = listeners.emplace(key, listener);
    if (inserted)
        return;
    // Several sockets on one key: the one whose owner is known speaks for them, and IPv4 comes if it comes to any.
    listener.sharers = found->second.sharers + 1;
    listener.mixed = found->second.mixed | (same_kind(found->second.owner, listener.owner) ? 0 : 1);
    listener.v6only = found->second.v6only = found->second.v6only & listener.v6only;
    if (found->second.owner.pid == 0)
        found->second = listener;
    else {
        found->second.sharers = listener.sharers;
        found->second.mixed = listener.mixed;
    }
}

// A socket that nobody holds at this moment (passed between processes, held by the kernel) keeps the owner known
// before.
void keep_known_owner(bh_listener& walked, const bh_listener& known)
{
    if (walked.owner.pid == 0 && known.cookie == walked.cookie) {
        walked.owner = known.owner;
        walked.cgroups = known.cgroups;
    }
}

// A TCP socket that is bound and does not listen yet is in no table that can be walked.
bool walk_shows(const bh_listener_key& key, const bh_listener& listener)
{
    return key.protocol == IPPROTO_UDP || listener.state == BH_LISTENER_LISTENING;
}

// What the kernel has written since the walk is newer, and stays.
std::set<bh_listener_key, KeyLess> take_newer(int table, Listeners& listeners, std::chrono::nanoseconds walk_began)
{
    std::set<bh_listener_key, KeyLess> newer;
    for (auto& [key, walked] : listeners) {
        bh_listener known{};
        if (bpf_map_lookup_elem(table, &key, &known) != 0)
            continue;
        if (known.since_ns <= static_cast<__u64>(walk_began.count())) {
            keep_known_owner(walked, known);
            continue;
        }
        walked = known;
        newer.insert(key);
    }
    return newer;
}

// Either may be the one that hears IPv4: bh_meet_other_family() in bpf/listeners.h.
void meet_other_families(int table, Listeners& listeners)
{
    for (auto& [key, of_ipv4] : listeners) {
        if (std::memcmp(&key.address, &any_v4, sizeof(any_v4)) != 0)
            continue;
        bh_listener_key of_both = key;
        of_both.address = any_v6;
        bh_listener both{}; // may have come after the walk
        if (const auto found = listeners.find(of_both); found != listeners.end())
            both = found->second;
        else if (bpf_map_lookup_elem(table, &of_both, &both) != 0 || both.state != BH_LISTENER_LISTENING)
            continue;
        if (both.v6only == 0 && !same_kind(both.owner, of_ipv4.owner))
            of_ipv4.mixed = 1;
    }
}

// How many rows are counted for whom.
using Held = std::array<__s32, BH_HOLDERS>;

Held count_held(int table)
{
    Held held{};
    for_each_entry<bh_listener_key, bh_listener>(table, [&](const auto&, const auto& row) { ++held[row.holder]; });
    return held;
}

// A row too many is one that the table has not yet, of whom has his share.
bool write_row(int table, const bh_listener_key& key, const bh_listener& row, Held& held)
{
    if (bpf_map_update_elem(table, &key, &row, BPF_EXIST) == 0)
        return true;
    if (errno == ENOENT && row.holder != 0 && held[row.holder] >= BH_LISTENERS_OF_ONE) {
        errno = E2BIG;
        return false;
    }
    if (bpf_map_update_elem(table, &key, &row, BPF_ANY) != 0)
        return false;
    ++held[row.holder];
    return true;
}

Status write(int table, const Listeners& listeners, const std::set<bh_listener_key, KeyLess>& newer)
{
    Status first_failure; // the others are written all the same
    Held held = count_held(table);
    for (const auto& [key, walked] : listeners) {
        if (newer.contains(key))
            continue;
        if (!write_row(table, key, walked, held) && first_failure) {
            auto error = fail_errno(errno, "write the listener table");
            if (errno == E2BIG)
                error.value().mend =
                    "more ports are bound than the table holds, or than the share of one user in it; what is missing "
                    "in it is judged without its process";
            first_failure = std::move(error);
        }
    }
    return first_failure;
}

// What the kernel has counted since is lost until the next walk: a moment's.
void correct_holders(const ListenerMaps& maps)
{
    const Held held = count_held(maps.table);
    for (__u32 holder = 1; holder < BH_HOLDERS; ++holder)
        (void)bpf_map_update_elem(maps.holders, &holder, &held[holder], BPF_ANY);
}

} // namespace

Status adopt_walked_listeners(const ListenerMaps& maps, std::span<const WalkedSocket> sockets, CgroupTree& cgroups,
                              const std::set<std::uint32_t>& namespaces, std::chrono::nanoseconds walk_began)
{
    const int table = maps.table;
    Listeners listeners;
    for (const WalkedSocket& walked : sockets)
        if (is_listener(walked.socket) && walked.socket.scope == BH_SCOPE_INSIDE)
            add(listeners, walked, cgroups, walk_began);
    // What is gone makes room first.
    std::vector<bh_listener_key> not_found;
    bh_listener_key key{}, next{};
    for (const bh_listener_key* previous = nullptr; bpf_map_get_next_key(table, previous, &next) == 0;
         previous = &key) {
        key = next;
        if (namespaces.contains(key.netns) && !listeners.contains(key))
            not_found.push_back(key);
    }
    Status cleaned;
    for (const bh_listener_key& gone : not_found) {
        bh_listener known{}; // read at the last moment: a socket may take the key just now
        if (bpf_map_lookup_elem(table, &gone, &known) == 0 &&
            known.since_ns <= static_cast<__u64>(walk_began.count()) && walk_shows(gone, known) &&
            bpf_map_delete_elem(table, &gone) != 0 && errno != ENOENT && cleaned)
            cleaned = fail_errno(errno, "clean the listener table");
    }
    const auto newer = take_newer(table, listeners, walk_began);
    meet_other_families(table, listeners);
    const auto written = write(table, listeners, newer); // whatever could not be cleaned
    correct_holders(maps);
    BULKHEAD_CHECK(written);
    return cleaned;
}

} // namespace bulkhead::agent
