// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/own_addresses.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>

#include <algorithm>
#include <atomic>
#include <bitset>
#include <cerrno>
#include <cstring>

namespace bulkhead::agent {

namespace {

// What is left of the tables is the guarded namespace's.
constexpr std::size_t elsewhere_at_most = 3072;

bh_address to_key(const IpAddress& address)
{
    bh_address key{};
    std::memcpy(key.byte, address.bytes.data(), sizeof(key.byte));
    return key;
}

IpAddress from_key(const bh_address& key)
{
    IpAddress address;
    std::memcpy(address.bytes.data(), key.byte, sizeof(key.byte));
    return address;
}

template <typename Key>
std::vector<Key> keys_of(int map)
{
    std::vector<Key> keys;
    Key key{}, next{};
    for (const Key* previous = nullptr; bpf_map_get_next_key(map, previous, &next) == 0; previous = &key) {
        key = next;
        keys.push_back(key);
    }
    return keys;
}

bool is_of_one_link(const IpAddress& address)
{
    static const Cidr link_local = *Cidr::parse("fe80::/10");
    return link_local.contains(address);
}

Status write(int map, const bh_address& key, std::uint8_t value)
{
    const int error = value != 0 ? bpf_map_update_elem(map, &key, &value, BPF_ANY) : bpf_map_delete_elem(map, &key);
    if (error != 0 && errno != ENOENT)
        return fail_errno(errno, "write the table of own addresses");
    return {};
}

} // namespace

OwnAddresses::OwnAddresses(::datapath& skeleton)
    : marks_(bpf_map__fd(skeleton.maps.bh_own_addresses)), elsewhere_map_(bpf_map__fd(skeleton.maps.bh_own_elsewhere)),
      absent_(skeleton.bss->not_own_addresses)
{}

// Every word is one store: the programs look at one bit, and what is not said to be absent is looked up.
void OwnAddresses::may_be_there(const bh_address& key) const
{
    const auto bit = bh_own_filter_bit(&key);
    std::atomic_ref<__u64>(absent_[bit / 64]).fetch_and(~(std::uint64_t{1} << bit % 64));
}

void OwnAddresses::note_absent() const
{
    std::bitset<BH_OWN_FILTER_BITS> present;
    bh_address key{}, next{};
    for (const bh_address* previous = nullptr; bpf_map_get_next_key(marks_, previous, &next) == 0; previous = &key) {
        key = next;
        present.set(bh_own_filter_bit(&key));
    }
    if (errno != ENOENT) // that was not all
        return;
    for (std::size_t i = 0; i < absent_.size(); ++i) {
        std::uint64_t absent = 0;
        for (std::size_t bit = 0; bit < 64; ++bit)
            absent |= std::uint64_t{present[64 * i + bit] ? 0U : 1U} << bit;
        std::atomic_ref<__u64>(absent_[i]).store(absent);
    }
}

// Brings the bits of `mask` of every address up to date; the others are somebody else's.
Status OwnAddresses::mark(const Marks& wanted, std::uint8_t mask) const
{
    Marks missing = wanted;
    Status done;
    const auto set = [&](const IpAddress& address, std::uint8_t before, std::uint8_t bits) {
        const auto after = static_cast<std::uint8_t>((before & ~mask) | bits);
        if (after == before)
            return;
        may_be_there(to_key(address));
        if (auto written = write(marks_, to_key(address), after); !written && done)
            done = std::move(written);
    };
    for (const auto& key : keys_of<bh_address>(marks_)) {
        std::uint8_t before = 0;
        const auto address = from_key(key);
        const auto found = wanted.find(address);
        if (bpf_map_lookup_elem(marks_, &key, &before) == 0)
            set(address, before, found == wanted.end() ? std::uint8_t{0} : found->second);
        missing.erase(address);
    }
    for (const auto& [address, bits] : missing)
        set(address, 0, bits);
    note_absent();
    return done;
}

Status OwnAddresses::set_guarded(const std::vector<InterfaceAddress>& addresses,
                                 const std::vector<Interface>& interfaces)
{
    Marks marks;
    for (const auto& one : addresses) {
        marks[one.address] |= BH_OWN_UNICAST;
        for (const auto broadcast : one.broadcasts)
            marks[IpAddress::from_v4(ntohl(broadcast))] |= BH_OWN_BROADCAST;
    }
    for (const auto& address : counting_as_loopback(addresses, interfaces))
        marks[address] |= BH_OWN_LOOPBACK;
    return mark(marks, BH_OWN_UNICAST | BH_OWN_LOOPBACK | BH_OWN_BROADCAST);
}

// Those with the fewest first: who has many does not take the place of others.
std::vector<std::uint32_t> OwnAddresses::that_fit(const Elsewhere& addresses)
{
    std::vector<std::pair<std::size_t, std::uint32_t>> by_size;
    for (const auto& [netns, of_it] : addresses)
        by_size.emplace_back(of_it.size(), netns);
    std::sort(by_size.begin(), by_size.end());
    std::vector<std::uint32_t> fitting;
    std::size_t all = 0;
    for (const auto& [size, netns] : by_size)
        if ((all += size) <= elsewhere_at_most)
            fitting.push_back(netns);
    return fitting;
}

// The table by namespace is written first, and cleaned last: a mark without a row would say "peer". What does not go in
// does not keep the rest from being known.
Status OwnAddresses::set_elsewhere(const Elsewhere& addresses)
{
    if (elsewhere_known_ && addresses == elsewhere_)
        return {};
    const auto fitting = that_fit(addresses);
    Status done;
    if (fitting.size() < addresses.size())
        done = fail(ErrorKind::failed,
                    "the addresses of {} network namespaces are not known: {} of others' at most are, in all",
                    addresses.size() - fitting.size(), elsewhere_at_most);
    Marks marks;
    std::set<std::uint32_t> written;
    const std::uint8_t present = 1;
    for (const auto netns : fitting) {
        written.insert(netns);
        for (const auto& address : addresses.at(netns)) {
            const bh_own_key key{to_key(address), netns};
            if (bpf_map_update_elem(elsewhere_map_, &key, &present, BPF_ANY) == 0)
                marks[address] = BH_OWN_ELSEWHERE;
            else if (done)
                done = fail_errno(errno, "write the table of own addresses of network namespaces");
        }
    }
    if (auto marked = mark(marks, BH_OWN_ELSEWHERE); !marked && done)
        done = std::move(marked);
    for (const auto& key : keys_of<bh_own_key>(elsewhere_map_))
        if (!written.contains(key.netns) || !addresses.at(key.netns).contains(from_key(key.address)))
            (void)bpf_map_delete_elem(elsewhere_map_, &key);
    elsewhere_ = addresses;
    elsewhere_known_ = done.has_value(); // what failed is tried again
    return done;
}

OwnAddresses::Elsewhere OwnAddresses::elsewhere() const
{
    Elsewhere addresses;
    for (const auto& key : keys_of<bh_own_key>(elsewhere_map_))
        addresses[key.netns].insert(from_key(key.address));
    return addresses;
}

// Loopback addresses are known without being listed.
std::set<IpAddress> counting_as_loopback(const std::vector<InterfaceAddress>& addresses,
                                         const std::vector<Interface>& interfaces)
{
    std::set<int> up;
    for (const auto& interface : interfaces)
        if (interface.up) // the kernel sends for an address of one that is down to whoever else may have it
            up.insert(interface.index);
    std::set<IpAddress> result;
    for (const auto& one : addresses)
        if (up.contains(one.index) && !is_of_one_link(one.address) && !one.address.is_loopback())
            result.insert(one.address);
    return result;
}

} // namespace bulkhead::agent
