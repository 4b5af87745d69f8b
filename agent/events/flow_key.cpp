// SPDX-License-Identifier: Apache-2.0
#include "agent/events/flow_key.h"

#include "common/net/digest.h"

#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <random>
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

// Who chooses peers and ports must not be able to choose those that fall together in a table.
class SecretHash {
public:
    SecretHash& number(std::uint64_t value)
    {
        hash_ ^= value; // and then MurmurHash3's finaliser
        hash_ = (hash_ ^ (hash_ >> 33)) * 0xff51afd7ed558ccdULL;
        hash_ = (hash_ ^ (hash_ >> 33)) * 0xc4ceb9fe1a85ec53ULL;
        hash_ ^= hash_ >> 33;
        return *this;
    }
    SecretHash& address(const IpAddress& address)
    {
        std::uint64_t halves[2];
        static_assert(sizeof(halves) == sizeof(address.bytes));
        std::memcpy(halves, address.bytes.data(), sizeof(halves));
        return number(halves[0]).number(halves[1]);
    }
    template <typename Ends>
    SecretHash& ports(const Ends& ends)
    {
        return number((std::uint64_t{ends.local_port} << 24) | (std::uint64_t{ends.remote_port} << 8) | ends.protocol)
            .number(ends.netns);
    }
    [[nodiscard]] std::size_t get() const { return hash_; }

private:
    static std::uint64_t secret()
    {
        static const std::uint64_t once = (std::uint64_t{std::random_device{}()} << 32) | std::random_device{}();
        return once;
    }
    std::uint64_t hash_ = secret();
};

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

std::uint32_t other_netns(std::uint32_t inode, std::uint32_t guarded)
{
    // 1: programs of an earlier version had a count there
    return inode <= 1 || guarded == 0 || inode == guarded ? 0 : inode;
}

FlowTuple tuple_of(const bh_event& event, std::uint32_t guarded)
{
    return {to_ip(event.local), to_ip(event.remote), event.local_port,
            event.remote_port,  event.protocol,      other_netns(event.netns, guarded)};
}

FlowTuple tuple_of(const bh_walked_socket& socket, std::uint32_t guarded)
{
    return {to_ip(socket.local), to_ip(socket.remote), socket.local_port,
            socket.remote_port,  socket.protocol,      other_netns(socket.netns, guarded)};
}

FlowTuple tuple_of(const bh_udp_flow_key& key, std::uint32_t guarded)
{
    return {{}, to_ip(key.remote), key.local_port, key.remote_port, IPPROTO_UDP, other_netns(key.netns, guarded)};
}

FlowKey FlowKey::tcp(std::uint64_t cookie)
{
    FlowKey key;
    key.cookie = cookie;
    key.protocol = IPPROTO_TCP;
    return key;
}

FlowKey FlowKey::udp(std::uint8_t direction, std::uint64_t cookie, const FlowTuple& tuple)
{
    FlowKey key{cookie, tuple.remote, tuple.remote_port, 0, IPPROTO_UDP, 0};
    if (direction != BH_OUTBOUND) {
        key.cookie = 0;
        key.local_port = tuple.local_port;
        key.netns = tuple.netns;
    }
    return key;
}

std::size_t FlowHash::operator()(const FlowTuple& tuple) const noexcept
{
    return SecretHash().address(tuple.local).address(tuple.remote).ports(tuple).get();
}

std::size_t FlowHash::operator()(const FlowKey& key) const noexcept
{
    return SecretHash().number(key.cookie).address(key.remote).ports(key).get();
}

FlowId make_flow_id(const std::string& boot_id, const std::string& agent_id, const FlowKey& key, const FlowTuple& tuple,
                    std::uint64_t salt)
{
    Bytes bytes;
    bytes.text(boot_id).text(agent_id).number(tuple.protocol).number(key.cookie);
    bytes.address(tuple.remote).number(tuple.remote_port).number(salt);
    if (key.cookie == 0)
        bytes.address(tuple.local).number(tuple.local_port);
    if (key.cookie == 0 && tuple.netns != 0)
        bytes.number(tuple.netns);
    return digest_of(bytes);
}

FlowId make_denial_id(const std::string& boot_id, const std::string& agent_id, const bh_event& event,
                      std::uint32_t guarded)
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
    if (const auto netns = other_netns(event.netns, guarded); netns != 0 && event.several == BH_SEVERAL_NONE)
        bytes.number(netns);
    return digest_of(bytes);
}

} // namespace bulkhead::agent
