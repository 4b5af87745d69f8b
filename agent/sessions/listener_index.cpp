// SPDX-License-Identifier: Apache-2.0
#include "agent/sessions/listener_index.h"

#include "agent/datapath/listeners.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace bulkhead::agent {
namespace {

bool is_v4(const bh_address& address)
{
    return std::memcmp(address.byte, any_v4.byte, 12) == 0;
}

bool listens(const bh_walked_socket& socket)
{
    return socket.protocol == IPPROTO_TCP ? socket.state == TCP_LISTEN
                                          : socket.protocol == IPPROTO_UDP && socket.state == TCP_CLOSE;
}

// As a proxy: a program may have a listener for each of its threads.
bool is_alike(const WalkedSocket& one, const WalkedSocket& other)
{
    return one.socket.local_port == other.socket.local_port && one.socket.uid == other.socket.uid &&
           one.owner.uid == other.owner.uid && one.owner.exe_device == other.owner.exe_device &&
           one.owner.exe_inode == other.owner.exe_inode && one.owner.cgroup_id == other.owner.cgroup_id;
}

} // namespace

std::size_t ListenerIndex::Hash::operator()(const bh_listener_key& key) const noexcept
{
    char bytes[sizeof(key)];
    std::memcpy(bytes, &key, sizeof(key));
    return std::hash<std::string_view>{}({bytes, sizeof(bytes)});
}

bool ListenerIndex::Equal::operator()(const bh_listener_key& a, const bh_listener_key& b) const noexcept
{
    return std::memcmp(&a, &b, sizeof(a)) == 0;
}

ListenerIndex::ListenerIndex(std::span<const WalkedSocket> sockets)
{
    for (const auto& walked : sockets) {
        if (!listens(walked.socket))
            continue;
        listeners_.try_emplace(
            {walked.socket.local, walked.socket.local_port, walked.socket.protocol, 0, walked.socket.netns}, &walked);
        if (walked.socket.protocol != IPPROTO_TCP || walked.socket.transparent == 0)
            continue;
        auto& proxies = proxies_[{walked.socket.netns, walked.socket.cgroup_id}];
        const bool known = std::any_of(proxies.begin(), proxies.end(),
                                       [&walked](const auto* other) { return is_alike(*other, walked); });
        if (!known && proxies.size() < most_proxies)
            proxies.push_back(&walked);
    }
}

std::span<const WalkedSocket* const> ListenerIndex::proxies(std::uint32_t netns, std::uint64_t cgroup_id) const
{
    const auto found = proxies_.find({netns, cgroup_id});
    if (found == proxies_.end())
        return {};
    return found->second;
}

const WalkedSocket* ListenerIndex::find(std::uint32_t netns, std::uint8_t protocol, const bh_address& local,
                                        std::uint16_t port) const
{
    const auto at = [&](const bh_address& address) -> const WalkedSocket* {
        const auto found = listeners_.find({address, port, protocol, 0, netns});
        return found == listeners_.end() ? nullptr : found->second;
    };
    if (const auto* exact = at(local))
        return exact;
    if (!is_v4(local))
        return at(any_v6);
    if (const auto* v4 = at(any_v4))
        return v4;
    const auto* dual = at(any_v6);
    return dual != nullptr && dual->socket.v6only == 0 ? dual : nullptr;
}

} // namespace bulkhead::agent
