// SPDX-License-Identifier: Apache-2.0
#include "agent/events/flow_key.h"

#include "common/net/digest.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace bulkhead::agent {
namespace {

class Bytes {
public:
    template <typename Integer>
    Bytes& number(Integer value)
    {
        for (unsigned i = 0; i < sizeof(value); ++i)
            bytes_ += static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i));
        return *this;
    }
    Bytes& address(const IpAddress& address)
    {
        bytes_.append(address.bytes.begin(), address.bytes.end());
        return *this;
    }
    Bytes& text(const std::string& text) // with its length, so that two texts cannot run into each other
    {
        number(static_cast<std::uint64_t>(text.size()));
        bytes_ += text;
        return *this;
    }
    [[nodiscard]] const std::string& get() const { return bytes_; }

private:
    std::string bytes_;
};

std::size_t mix(std::size_t seed, std::size_t value)
{
    return seed ^ (value + 0x9e3779b97f4a7c15ULL + (seed << 6) + (seed >> 2));
}

FlowId digest_of(const Bytes& bytes)
{
    FlowId id{};
    if (const auto digest = sha256(bytes.get()))
        std::copy_n(digest->begin(), id.size(), id.begin());
    return id;
}

} // namespace

IpAddress to_ip(const bh_address& address)
{
    IpAddress ip;
    std::memcpy(ip.bytes.data(), address.byte, ip.bytes.size());
    return ip;
}

FlowTuple tuple_of(const bh_event& event)
{
    return {to_ip(event.local), to_ip(event.remote), event.local_port, event.remote_port, event.protocol};
}

FlowTuple tuple_of(const bh_walked_socket& socket)
{
    return {to_ip(socket.local), to_ip(socket.remote), socket.local_port, socket.remote_port, socket.protocol};
}

FlowKey FlowKey::tcp(std::uint64_t cookie)
{
    FlowKey key;
    key.cookie = cookie;
    key.protocol = IPPROTO_TCP;
    return key;
}

FlowKey FlowKey::udp(std::uint8_t direction, std::uint64_t cookie, const IpAddress& remote, std::uint16_t remote_port,
                     std::uint16_t local_port)
{
    const bool outbound = direction == BH_OUTBOUND;
    return {outbound ? cookie : 0, remote, remote_port, outbound ? std::uint16_t{0} : local_port, IPPROTO_UDP};
}

std::size_t FlowHash::operator()(const FlowTuple& tuple) const noexcept
{
    const auto ports = (std::size_t{tuple.local_port} << 24) | (std::size_t{tuple.remote_port} << 8) | tuple.protocol;
    const std::hash<IpAddress> address;
    return mix(mix(address(tuple.local), address(tuple.remote)), ports);
}

std::size_t FlowHash::operator()(const FlowKey& key) const noexcept
{
    const auto ports = (std::size_t{key.local_port} << 24) | (std::size_t{key.remote_port} << 8) | key.protocol;
    return mix(mix(std::hash<IpAddress>{}(key.remote), key.cookie), ports);
}

FlowId make_flow_id(const std::string& boot_id, const std::string& agent_id, const FlowKey& key, const FlowTuple& tuple,
                    std::uint64_t salt)
{
    Bytes bytes;
    bytes.text(boot_id).text(agent_id).number(tuple.protocol).number(key.cookie);
    bytes.address(tuple.remote).number(tuple.remote_port).number(salt);
    if (key.cookie == 0)
        bytes.address(tuple.local).number(tuple.local_port);
    return digest_of(bytes);
}

FlowId make_denial_id(const std::string& boot_id, const std::string& agent_id, const bh_event& event)
{
    Bytes bytes;
    bytes.text("denial").text(boot_id).text(agent_id).number(event.generation);
    bytes.number(event.direction).number(event.protocol).number(event.several).address(to_ip(event.remote));
    bytes.number(event.verdict).number(event.reason).number(event.shadow_verdict).number(event.shadow_reason);
    if (event.several == BH_SEVERAL_NONE || event.direction == BH_FORWARDED)
        bytes.address(to_ip(event.local));
    if (event.several == BH_SEVERAL_NONE)
        bytes.number(event.direction == BH_INBOUND ? event.local_port : event.remote_port)
            .number(event.icmp_type)
            .number(event.subject.pid)
            .number(event.subject.uid)
            .number(event.subject.cgroup_id)
            .number(event.subject.exe_device)
            .number(event.subject.exe_inode);
    return digest_of(bytes);
}

} // namespace bulkhead::agent
