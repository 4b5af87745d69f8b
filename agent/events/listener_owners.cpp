// SPDX-License-Identifier: Apache-2.0
#include "agent/events/listener_owners.h"

#include "agent/events/flow_key.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_listeners = 65536;

bool listens(const bh_walked_socket& socket)
{
    return socket.protocol == IPPROTO_TCP ? socket.state == TCP_LISTEN
                                          : socket.protocol == IPPROTO_UDP && socket.state == TCP_CLOSE;
}

} // namespace

void ListenerOwners::listening(const bh_event& event, std::uint32_t netns, SharedProcess owner)
{
    if (owners_.size() < max_listeners)
        owners_[{to_ip(event.local), event.local_port, event.protocol, netns}] = {event.subject, std::move(owner),
                                                                                  event.cookie, false};
}

void ListenerOwners::gone(const bh_event& event, std::uint32_t netns)
{
    const auto found = owners_.find({to_ip(event.local), event.local_port, event.protocol, netns});
    if (found != owners_.end() && found->second.cookie == event.cookie) // else another socket shares the key
        owners_.erase(found);
}

void ListenerOwners::replace(std::span<const WalkedSocket> sockets, std::uint32_t guarded_netns)
{
    owners_.clear();
    for (const auto& [socket, owner] : sockets) {
        if (!listens(socket) || owners_.size() >= max_listeners)
            continue;
        const auto netns = other_netns(socket.netns, guarded_netns);
        owners_[{to_ip(socket.local), socket.local_port, socket.protocol, netns}] = {owner, nullptr, socket.cookie,
                                                                                     socket.v6only != 0};
    }
}

const ListenerOwners::Owner* ListenerOwners::at(const Key& key) const
{
    const auto found = owners_.find(key);
    return found == owners_.end() ? nullptr : &found->second;
}

const ListenerOwners::Owner* ListenerOwners::find(std::uint32_t netns, std::uint8_t protocol, const IpAddress& local,
                                                  std::uint16_t port) const
{
    if (const auto* exact = at({local, port, protocol, netns}))
        return exact;
    if (!local.is_v4())
        return at({IpAddress{}, port, protocol, netns});
    if (const auto* v4 = at({IpAddress::from_v4(0), port, protocol, netns}))
        return v4;
    const auto* dual = at({IpAddress{}, port, protocol, netns});
    return dual != nullptr && !dual->v6only ? dual : nullptr;
}

} // namespace bulkhead::agent
