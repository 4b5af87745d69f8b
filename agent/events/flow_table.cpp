// SPDX-License-Identifier: Apache-2.0
#include "agent/events/flow_table.h"

#include <netinet/in.h>

namespace bulkhead::agent {

Flow* FlowTable::insert(const FlowKey& key, Flow flow)
{
    erase(key);
    if (flows_.size() >= limit_)
        return nullptr;
    if (key.protocol == IPPROTO_TCP)
        tcp_by_tuple_[flow.tuple] = key;
    else if (key.protocol != IPPROTO_TCP && key.cookie != 0)
        udp_by_cookie_[key.cookie].insert(key);
    return &flows_.emplace(key, std::move(flow)).first->second;
}

void FlowTable::erase(const FlowKey& key)
{
    const auto found = flows_.find(key);
    if (found == flows_.end())
        return;
    unindex(found->first, found->second);
    flows_.erase(found);
}

void FlowTable::unindex(const FlowKey& key, const Flow& flow)
{
    if (key.protocol == IPPROTO_TCP) {
        const auto found = tcp_by_tuple_.find(flow.tuple);
        if (found != tcp_by_tuple_.end() && found->second == key) // the ports may serve a newer connection by now
            tcp_by_tuple_.erase(found);
        return;
    }
    const auto of_socket = udp_by_cookie_.find(key.cookie);
    if (of_socket == udp_by_cookie_.end())
        return;
    of_socket->second.erase(key);
    if (of_socket->second.empty())
        udp_by_cookie_.erase(of_socket);
}

Flow* FlowTable::rename(const FlowKey& from, const FlowKey& to)
{
    const auto found = flows_.find(from);
    if (found == flows_.end())
        return nullptr;
    auto flow = found->second;
    erase(from);
    return insert(to, std::move(flow));
}

Flow* FlowTable::find(const FlowKey& key)
{
    const auto found = flows_.find(key);
    return found == flows_.end() ? nullptr : &found->second;
}

const Flow* FlowTable::find(const FlowKey& key) const
{
    const auto found = flows_.find(key);
    return found == flows_.end() ? nullptr : &found->second;
}

const Flow* FlowTable::tcp_between(const FlowTuple& tuple) const
{
    const auto found = tcp_by_tuple_.find(tuple);
    return found == tcp_by_tuple_.end() ? nullptr : &flows_.at(found->second);
}

std::vector<FlowKey> FlowTable::udp_of(std::uint64_t cookie) const
{
    const auto of_socket = udp_by_cookie_.find(cookie);
    if (of_socket == udp_by_cookie_.end())
        return {};
    return {of_socket->second.begin(), of_socket->second.end()};
}

} // namespace bulkhead::agent
