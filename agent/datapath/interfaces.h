// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"
#include "common/net/ip.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace bulkhead::agent {

// What stands before the IP header of a device's frames (ARPHRD of linux/if_arp.h).
enum class LinkHeader { none, ethernet, unknown };

struct Interface {
    int index = 0;
    std::string name;
    bool loopback = false;
    bool up = false;
    LinkHeader header = LinkHeader::ethernet;
    bool forwards = false;    // its own setting, of IPv4 or IPv6 (net.*.conf.NAME.forwarding)
    bool accepts_own = false; // net.ipv4.conf.NAME.accept_local
    std::string kind;         // of rtnetlink(7), as "macvlan"; drivers' own have none as a rule
    bool has_parent = false;  // a device of a bus; Linux 5.14
    // Of what it stands on or is joined to, where that is in another namespace: the number that it has in this one.
    std::optional<int> link_netns;
    bool operator==(const Interface&) const = default;
};

struct InterfaceAddress {
    int index = 0;
    IpAddress address;
    std::vector<std::uint32_t> broadcasts; // what the kernel takes for such with an IPv4 one, network byte order
    bool operator==(const InterfaceAddress&) const = default;
};

// A filter of a program, as tc(8) has it.
struct TcFilter {
    int index = 0; // of the interface
    std::uint32_t parent = 0, handle = 0, priority = 0;
};

// The interfaces and addresses of the network namespace in which it was opened (rtnetlink(7)), and word of their
// changes. Not thread-safe.
class InterfaceWatch {
public:
    static constexpr std::size_t unlimited = static_cast<std::size_t>(-1);

    // Opens in the calling thread's namespace, and stays there whatever the thread does later.
    [[nodiscard]] static Result<InterfaceWatch> open();

    // Readable when something has changed since the last call of changed().
    [[nodiscard]] int fd() const { return changes_.get(); }
    // Whether something has changed; never blocks. A queue that ran over counts as a change.
    [[nodiscard]] bool changed();

    // Fail when there are more than `at_most`. Nothing else can be asked then: the kernel has more to say.
    [[nodiscard]] Result<std::vector<Interface>> interfaces(std::size_t at_most = unlimited);
    [[nodiscard]] Result<std::vector<InterfaceAddress>> addresses(std::size_t at_most = unlimited);
    // The number that another namespace has in this one (ip-netns(8), nsid); nullopt: it has none.
    [[nodiscard]] Result<std::optional<int>> number_of(int netns);
    // Whether anybody's filter is in the interface's clsact or ingress queueing discipline, on either side.
    [[nodiscard]] Result<bool> has_filters(int index);
    // Id of the program that the filter runs; 0: there is none.
    [[nodiscard]] Result<std::uint32_t> program_of(const TcFilter& filter);

private:
    InterfaceWatch(UniqueFd changes, UniqueFd questions)
        : changes_(std::move(changes)), questions_(std::move(questions))
    {}
    template <typename Question, typename Visit>
    Status ask(std::uint16_t type, std::uint16_t flags, const Question& question, const Visit& visit);
    template <typename Question, typename Visit>
    Status dump(std::uint16_t type, const Question& question, const Visit& visit);

    UniqueFd changes_, questions_;
    std::uint32_t sequence_ = 0;
};

} // namespace bulkhead::agent
