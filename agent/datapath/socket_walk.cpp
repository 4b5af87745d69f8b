// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/socket_walk.h"

#include "agent/datapath/iterator.h"
#include "agent/datapath/sock_diag.h"

#include <bpf/bpf.h>

#include <unordered_map>

namespace bulkhead::agent {

namespace {

// Of several processes that hold a socket: not the one that only keeps it for others (pid 1, socket activation), then
// the eldest by number (the master of a preforking server).
bool better_owner(const bh_subject& candidate, const bh_subject& current)
{
    if ((candidate.pid == 1) != (current.pid == 1))
        return current.pid == 1;
    return candidate.pid < current.pid;
}

constexpr std::size_t most_holders = 1024; // of one socket; nobody has a use for more

using Holders = std::unordered_map<std::uint64_t, std::vector<bh_subject>>; // of sockets with several, by inode

// Of a socket that hears: who called listen(2) or bind(2), as the table has it, or who is most like that one. Whoever
// was handed the socket since must not speak for it. Pid 1 only keeps it for others.
const bh_subject& heir_of(const bh_subject& known, const std::vector<bh_subject>& holders, const bh_subject& best)
{
    if (known.pid == 0 || known.pid == 1)
        return best;
    const auto likeness = [&known](const bh_subject& one) {
        return (one.pid == known.pid ? 8 : 0) + (one.cgroup_id == known.cgroup_id ? 4 : 0) +
               (one.uid == known.uid ? 2 : 0) +
               (one.exe_inode == known.exe_inode && one.exe_device == known.exe_device ? 1 : 0);
    };
    const auto* heir = &best;
    for (const auto& one : holders)
        if (likeness(one) > likeness(*heir))
            heir = &one;
    return *heir;
}

// Of a socket, or of those that share its port. pid 0: the table has none.
bh_subject known_owner_of(const bh_walked_socket& socket, int listeners)
{
    const bh_listener_key key{socket.local, socket.local_port, socket.protocol, 0, socket.netns};
    bh_listener known{};
    if (bpf_map_lookup_elem(listeners, &key, &known) != 0 || (known.cookie != socket.cookie && known.sharers == 0))
        return {};
    return known.owner;
}

} // namespace

Result<SocketWalk> SocketWalk::attach(const ::datapath& skeleton, bool has_cookies, std::function<void()> on_progress)
{
    SocketWalk walk;
    walk.has_cookies_ = has_cookies;
    walk.on_progress_ = std::move(on_progress);
    walk.listeners_ = bpf_map__fd(skeleton.maps.bh_listeners);
    BULKHEAD_TRY(walk.tcp_, attach_iterator(skeleton.progs.bh_walk_tcp, "TCP sockets"));
    BULKHEAD_TRY(walk.udp_, attach_iterator(skeleton.progs.bh_walk_udp, "UDP sockets"));
    BULKHEAD_TRY(walk.owners_, attach_iterator(skeleton.progs.bh_walk_owners, "owners of sockets"));
    return walk;
}

Result<std::vector<WalkedSocket>> SocketWalk::walk(const std::function<Status(const Look&)>& enter) const
{
    std::vector<bh_walked_socket> walked;
    BULKHEAD_CHECK(enter([&]() -> Status {
        if (!has_cookies_) {
            BULKHEAD_TRY(SockDiag diag, SockDiag::open());
            BULKHEAD_CHECK(diag.give_cookies());
        }
        const auto add = [&](const bh_walked_socket& socket) { walked.push_back(socket); };
        BULKHEAD_CHECK(read_iterator<bh_walked_socket>(tcp_, "TCP sockets", on_progress_, add));
        return read_iterator<bh_walked_socket>(udp_, "UDP sockets", on_progress_, add);
    }));
    if (walked.empty())
        return std::vector<WalkedSocket>{};

    std::unordered_map<std::uint64_t, bh_subject> by_inode;
    by_inode.reserve(walked.size());
    Holders several;
    const auto note_owner = [&](const bh_walked_owner& owner) {
        const auto [found, inserted] = by_inode.emplace(owner.inode, owner.subject);
        if (inserted)
            return;
        auto& best = found->second;
        const auto others = several.find(owner.inode);
        if ((others == several.end() ? best : others->second.back()).pid == owner.subject.pid)
            return; // told twice
        auto& holders =
            others == several.end() ? several.try_emplace(owner.inode, 1, best).first->second : others->second;
        if (holders.size() < most_holders)
            holders.push_back(owner.subject);
        if (better_owner(owner.subject, best))
            best = owner.subject;
    };
    BULKHEAD_CHECK(read_iterator<bh_walked_owner>(owners_, "owners of sockets", on_progress_, note_owner));
    std::vector<WalkedSocket> sockets;
    sockets.reserve(walked.size());
    for (const bh_walked_socket& socket : walked) {
        const auto owner = socket.inode != 0 ? by_inode.find(socket.inode) : by_inode.end();
        sockets.push_back({socket, owner != by_inode.end() ? owner->second : bh_subject{}});
        if (const auto holders = several.find(socket.inode); holders != several.end() && owner != by_inode.end())
            sockets.back().owner = heir_of(known_owner_of(socket, listeners_), holders->second, owner->second);
    }
    return sockets;
}

} // namespace bulkhead::agent
