// SPDX-License-Identifier: Apache-2.0
// Every structure is taken apart by a structured binding that names all its members: a member more does not compile
// until somebody decides what becomes of it here.
#include "common/wire/state_digest.h"

#include <openssl/sha.h>

#include <endian.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

namespace bulkhead::wire {
namespace {

// What common/wire puts in order when it reads, whatever order it came in.
template <typename T>
std::vector<T> sorted(std::vector<T> values)
{
    std::sort(values.begin(), values.end());
    return values;
}

// Numbers are 8 bytes, little endian; texts and structures are counted, and so are lists: nothing can be read in two
// ways.
class Encoder {
public:
    void number(std::uint64_t value)
    {
        const auto at = bytes_.size();
        bytes_.resize(at + 8);
        put(at, value);
    }
    void text(std::string_view value)
    {
        number(value.size());
        bytes_.insert(bytes_.end(), value.begin(), value.end());
    }
    void text(const std::optional<std::string>& value)
    {
        number(value ? 1 : 0);
        text(std::string_view(value ? *value : std::string_view()));
    }
    void text(const std::string& value) { text(std::string_view(value)); }
    template <typename List, typename Add>
    void list(const List& values, Add add)
    {
        number(values.size());
        for (const auto& value : values)
            structure([&] { add(value); });
    }
    // Counted, so that what is added at its end one day is not taken for what comes after it.
    template <typename Add>
    void structure(Add add)
    {
        const auto at = bytes_.size();
        number(0);
        add();
        put(at, bytes_.size() - at - 8);
    }
    [[nodiscard]] std::string digest() const
    {
        std::array<unsigned char, SHA256_DIGEST_LENGTH> raw{};
        ::SHA256(bytes_.data(), bytes_.size(), raw.data());
        return {raw.begin(), raw.end()};
    }

private:
    void put(std::size_t at, std::uint64_t value)
    {
        const std::uint64_t little_endian = htole64(value);
        std::memcpy(bytes_.data() + at, &little_endian, sizeof(little_endian));
    }

    std::vector<unsigned char> bytes_;
};

void add_texts(const std::vector<std::string>& values, Encoder& out)
{
    out.list(sorted(values), [&](const std::string& value) { out.text(value); });
}

void add_labels(const policy::Labels& labels, Encoder& out)
{
    out.list(labels, [&](const auto& label) {
        out.text(label.first);
        out.text(label.second);
    });
}

void add_address(const IpAddress& address, Encoder& out)
{
    const auto& [bytes] = address;
    out.text(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void add_peers(const policy::PeerSet& peers, Encoder& out)
{
    const auto& [any, cidrs, identities] = peers;
    out.number(any ? 1 : 0);
    out.list(sorted(cidrs), [&](const Cidr& cidr) {
        const auto& [address, length] = cidr;
        add_address(address, out);
        out.number(length);
    });
    out.list(sorted(identities), [&](policy::IdentityId id) { out.number(id); });
}

void add_rule(const policy::HostRule& rule, Encoder& out)
{
    const auto& [id, direction, action, planes, peers, services, process_class, expires, where, reason] = rule;
    out.text(id);
    out.number(static_cast<std::uint64_t>(direction));
    out.number(static_cast<std::uint64_t>(action));
    out.number(planes);
    out.structure([&peers = peers, &out] { add_peers(peers, out); });
    out.list(services, [&](const policy::ServiceAtom& atom) {
        const auto& [protocol, ports] = atom;
        const auto& [first, last] = ports;
        out.number(static_cast<std::uint64_t>(protocol));
        out.number(first);
        out.number(last);
    });
    out.number(process_class);
    out.number(expires ? 1 : 0);
    out.number(expires ? static_cast<std::uint64_t>(expires->time_since_epoch().count()) : 0);
    out.text(where);
    out.text(reason);
}

void add_condition(const policy::ProcessCondition& condition, Encoder& out)
{
    const auto& [unit, exe, sha256, user, container] = condition;
    for (const auto* one : {&unit, &exe, &sha256, &user, &container})
        out.text(*one);
}

void add_default(const policy::HostDefault& one, Encoder& out)
{
    const auto& [action, segment] = one;
    out.number(!action ? 0 : *action == policy::Action::allow ? 1 : 2);
    out.text(segment);
}

void add_policy(const policy::HostPolicy& policy, Encoder& out)
{
    const auto& [segments, rules, processes, defaults, loopback, sessions] = policy;
    add_texts(segments, out);
    out.list(rules, [&](const policy::HostRule& rule) { add_rule(rule, out); });
    out.list(processes, [&](const policy::ProcessCondition& condition) { add_condition(condition, out); });
    for (const auto& plane : defaults)
        for (const auto& one : plane)
            add_default(one, out);
    // Where no plane says anything of loopback, nothing of it goes over the wire.
    const bool speaks = std::any_of(std::begin(loopback), std::end(loopback),
                                    [](const policy::HostDefault& plane) { return plane.action.has_value(); });
    out.number(speaks ? 1 : 0);
    for (const auto& plane : loopback)
        add_default(speaks ? plane : policy::HostDefault{}, out);
    const auto& [kind, drain] = sessions;
    out.number(static_cast<std::uint64_t>(kind));
    out.number(kind == policy::Sessions::Kind::drain ? static_cast<std::uint64_t>(drain.count()) : 0);
}

void add_identity(const policy::Identity& identity, Encoder& out)
{
    const auto& [id, labels, named_workload, segments] = identity;
    out.number(id);
    add_labels(labels, out);
    out.text(named_workload);
    add_texts(segments, out);
}

// The entries of an unordered table by their keys.
template <typename Table>
std::vector<const typename Table::value_type*> in_order(const Table& table)
{
    // The keys beside the places: a table of 100,000 is spread over megabytes, and each is compared 17 times.
    std::vector<std::pair<typename Table::key_type, const typename Table::value_type*>> keys;
    keys.reserve(table.size());
    for (const auto& entry : table)
        keys.emplace_back(entry.first, &entry);
    std::sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<const typename Table::value_type*> entries;
    entries.reserve(keys.size());
    for (const auto& key : keys)
        entries.push_back(key.second);
    return entries;
}

} // namespace

std::string inventory_digest(const std::unordered_map<policy::IdentityId, policy::Identity>& identities,
                             const policy::AddressBook& addresses)
{
    Encoder out;
    out.list(in_order(identities), [&](const auto* entry) { add_identity(entry->second, out); });
    out.list(in_order(addresses), [&](const auto* entry) {
        const auto& [identity, workload] = entry->second;
        add_address(entry->first, out);
        out.number(identity);
        out.text(workload);
    });
    return out.digest();
}

std::string state_digest(const HostState& state, std::string_view inventory)
{
    const auto& [generation, policy_version, policy, identities, addresses, own_labels] = state;
    static_cast<void>(identities), static_cast<void>(addresses); // in `inventory`
    Encoder out;
    out.number(generation);
    out.number(policy_version);
    out.structure([&policy = policy, &out] { add_policy(policy, out); });
    out.text(inventory);
    add_labels(own_labels, out);
    return out.digest();
}

std::string state_digest(const HostState& state)
{
    return state_digest(state, inventory_digest(state.identities, state.addresses));
}

} // namespace bulkhead::wire
