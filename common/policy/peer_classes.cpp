// SPDX-License-Identifier: Apache-2.0
#include "common/policy/peer_classes.h"

#include "common/policy/signatures.h"

#include <algorithm>
#include <cstring>

namespace bulkhead::policy {
namespace {

// A prefix speaks of addresses of its own realm only: ::/0 does not mean IPv4, and nothing wider than loopback means
// loopback.
enum class Realm : std::uint8_t { v6, v4, loopback };

Realm realm_of(const Cidr& cidr)
{
    return cidr.is_loopback() ? Realm::loopback : cidr.address.is_v4() ? Realm::v4 : Realm::v6;
}

// A distinct prefix of the rules, in bits of the 16-byte form.
struct PrefixNode {
    IpAddress address;
    unsigned length = 0;
    Realm realm = Realm::v6;
    SignatureTable::Members sets;     // that name this very prefix
    SignatureTable::Id signature = 0; // and those of every prefix around it
    std::int32_t row = -1;            // of image.prefixes: of this node, or of the nearest one around it
};

bool covers(const IpAddress& network, unsigned length, const IpAddress& address)
{
    const unsigned whole = length / 8;
    if (std::memcmp(network.bytes.data(), address.bytes.data(), whole) != 0)
        return false;
    const unsigned rest = length % 8;
    return rest == 0 || ((network.bytes[whole] ^ address.bytes[whole]) >> (8 - rest)) == 0;
}

bh_address to_abi(const IpAddress& address)
{
    bh_address result{};
    std::memcpy(result.byte, address.bytes.data(), sizeof result.byte);
    return result;
}

IpAddress from_abi(const bh_address& address)
{
    IpAddress result;
    std::memcpy(result.bytes.data(), address.byte, sizeof address.byte);
    return result;
}

bool before(const PrefixNode& a, const PrefixNode& b)
{
    return std::tie(a.address, a.length) < std::tie(b.address, b.length);
}

std::vector<PrefixNode> distinct_prefixes(const std::vector<const PeerSet*>& sets)
{
    std::vector<PrefixNode> nodes;
    for (std::uint32_t set = 0; set < sets.size(); ++set)
        for (const auto& written : sets[set]->cidrs) {
            const auto cidr = written.masked();
            nodes.push_back({cidr.address, cidr.mapped_length(), realm_of(cidr), {set}, 0, -1});
        }
    std::stable_sort(nodes.begin(), nodes.end(), before);
    std::vector<PrefixNode> merged;
    for (auto& node : nodes) {
        if (merged.empty() || before(merged.back(), node))
            merged.push_back(std::move(node));
        else if (merged.back().sets.back() != node.sets.front())
            merged.back().sets.push_back(node.sets.front());
    }
    return merged;
}

// The kernel's trie holds all realms, so one within a prefix of another needs a prefix of its own there, if only to say
// "nobody".
void shield(std::vector<PrefixNode>& nodes, const Cidr& whole)
{
    PrefixNode own{whole.address, whole.mapped_length(), realm_of(whole), {}, 0, -1};
    const bool around = std::any_of(nodes.begin(), nodes.end(), [&own](const PrefixNode& node) {
        return node.realm != own.realm && node.length < own.length && covers(node.address, node.length, own.address);
    });
    const auto at = std::lower_bound(nodes.begin(), nodes.end(), own, before);
    const bool present = at != nodes.end() && !before(own, *at);
    if (around && !present)
        nodes.insert(at, std::move(own));
}

void shield_realms(std::vector<PrefixNode>& nodes)
{
    shield(nodes, {IpAddress::from_v4(0), 0}); // ::ffff:0:0/96 in the 16-byte form
    shield(nodes, {IpAddress::from_v4(0x7f000000), 8});
    IpAddress one;
    one.bytes.back() = 1;
    shield(nodes, {one, 128});
}

class Classifier {
public:
    Classifier(const std::vector<const PeerSet*>& sets, PlaneImage& image) : sets_(sets), image_(image) {}

    Status prefixes();
    Status addresses(const AddressBook& book);
    void single_addresses();
    [[nodiscard]] std::vector<std::vector<std::uint32_t>> classes_of_sets() const;

private:
    std::uint32_t class_of(SignatureTable::Id signature);
    [[nodiscard]] Status check_weight() const;

    const std::vector<const PeerSet*>& sets_;
    PlaneImage& image_;
    SignatureTable signatures_;
    std::vector<SignatureTable::Id> row_signatures_; // parallel to image_.prefixes
    std::unordered_map<SignatureTable::Id, std::uint32_t> classes_{{0, BH_PEER_ANY}};
    std::vector<SignatureTable::Id> numbered_; // signature of class i + 1
};

std::uint32_t Classifier::class_of(SignatureTable::Id signature)
{
    const auto [found, is_new] = classes_.try_emplace(signature, static_cast<std::uint32_t>(numbered_.size() + 1));
    if (is_new)
        numbered_.push_back(signature);
    return found->second;
}

Status Classifier::check_weight() const
{
    if (signatures_.weight() > max_plane_overlap)
        return fail(ErrorKind::invalid,
                    "the rules for one host overlap in too many ways: over {} combinations of rule and peers",
                    max_plane_overlap);
    return {};
}

Status Classifier::prefixes()
{
    auto nodes = distinct_prefixes(sets_);
    shield_realms(nodes);
    std::vector<const PrefixNode*> around; // in this order a prefix comes after all that contain it
    for (auto& node : nodes) {
        while (!around.empty() && !covers(around.back()->address, around.back()->length, node.address))
            around.pop_back();
        const auto* parent = around.empty() ? nullptr : around.back();
        const auto outer = parent != nullptr ? parent->signature : 0;
        const auto inherited = parent != nullptr && parent->realm == node.realm ? outer : 0;
        node.signature = signatures_.unite(inherited, signatures_.intern(node.sets));
        node.row = parent != nullptr ? parent->row : -1;
        if (node.signature != outer) { // else the prefix around it says the same
            image_.prefixes.push_back({{node.length, to_abi(node.address)}, class_of(node.signature), node.row});
            row_signatures_.push_back(node.signature);
            node.row = static_cast<std::int32_t>(image_.prefixes.size() - 1);
        }
        around.push_back(&node);
        BULKHEAD_CHECK(check_weight());
    }
    return {};
}

// The longest prefix that contains the address, by index; -1: none.
std::int32_t longest_prefix(const PlaneImage& image, const IpAddress& address)
{
    const auto after = std::upper_bound(
        image.prefixes.begin(), image.prefixes.end(), address,
        [](const IpAddress& a, const PlaneImage::Prefix& prefix) { return a < from_abi(prefix.key.address); });
    auto row = static_cast<std::int32_t>(after - image.prefixes.begin()) - 1;
    while (row >= 0) {
        const auto& prefix = image.prefixes[static_cast<std::size_t>(row)];
        if (covers(from_abi(prefix.key.address), prefix.key.prefixlen, address))
            break;
        row = prefix.parent;
    }
    return row;
}

Status Classifier::addresses(const AddressBook& book)
{
    std::unordered_map<IdentityId, SignatureTable::Members> sets_of;
    for (std::uint32_t set = 0; set < sets_.size(); ++set)
        for (const auto identity : sets_[set]->identities)
            if (auto& members = sets_of[identity]; members.empty() || members.back() != set)
                members.push_back(set);
    std::unordered_map<IdentityId, SignatureTable::Id> signature_of;
    for (const auto& [identity, members] : sets_of)
        signature_of.emplace(identity, signatures_.intern(members));

    std::vector<std::pair<IpAddress, SignatureTable::Id>>
        known; // in address order: class numbers do not depend on hashing
    known.reserve(book.size());
    for (const auto& [address, entry] : book)
        if (address.is_loopback()) // is everybody's, and so nobody's
            continue;
        else if (const auto found = signature_of.find(entry.identity); found != signature_of.end())
            known.emplace_back(address, found->second);
    std::sort(known.begin(), known.end());
    image_.exact.reserve(known.size());
    for (const auto& [address, identity_signature] : known) {
        const auto row = longest_prefix(image_, address);
        const auto outer = row < 0 ? 0 : row_signatures_[static_cast<std::size_t>(row)];
        const auto signature = signatures_.unite(outer, identity_signature);
        if (signature != outer)
            image_.exact.emplace(address, class_of(signature));
        BULKHEAD_CHECK(check_weight());
    }
    return {};
}

// A prefix of one address is an address: one step in the exact table, where a trie of many takes one for each level,
// each a cache line of its own. A known address has its prefix in its class already.
void Classifier::single_addresses()
{
    std::vector<std::int32_t> moved_to(image_.prefixes.size(), -1);
    std::vector<PlaneImage::Prefix> wider;
    for (std::size_t i = 0; i < image_.prefixes.size(); ++i) {
        auto prefix = image_.prefixes[i];
        if (prefix.key.prefixlen == 8 * sizeof(bh_address)) {
            image_.exact.try_emplace(from_abi(prefix.key.address), prefix.peer_class);
            continue;
        }
        if (prefix.parent >= 0) // comes before, and is wider
            prefix.parent = moved_to[static_cast<std::size_t>(prefix.parent)];
        moved_to[i] = static_cast<std::int32_t>(wider.size());
        wider.push_back(prefix);
    }
    image_.prefixes = std::move(wider);
}

std::vector<std::vector<std::uint32_t>> Classifier::classes_of_sets() const
{
    std::vector<std::vector<std::uint32_t>> classes(sets_.size());
    for (std::uint32_t i = 0; i < numbered_.size(); ++i)
        for (const auto set : signatures_.members(numbered_[i]))
            classes[set].push_back(i + 1);
    return classes;
}

} // namespace

Result<std::vector<std::vector<std::uint32_t>>> classify_peers(const std::vector<const PeerSet*>& sets,
                                                               const AddressBook& addresses, PlaneImage& image)
{
    Classifier classifier(sets, image);
    BULKHEAD_CHECK(classifier.prefixes());
    BULKHEAD_CHECK(classifier.addresses(addresses));
    classifier.single_addresses();
    return classifier.classes_of_sets();
}

std::uint32_t PlaneImage::peer_class(const IpAddress& address) const
{
    if (const auto found = exact.find(address); found != exact.end())
        return found->second;
    const auto row = longest_prefix(*this, address);
    return row < 0 ? BH_PEER_ANY : prefixes[static_cast<std::size_t>(row)].peer_class;
}

} // namespace bulkhead::policy
