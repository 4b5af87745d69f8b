// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/namespace_links.h"

#include "agent/datapath/kernel_features.h"
#include "agent/datapath/own_addresses.h"

#include <algorithm>
#include <vector>

namespace bulkhead::agent {

namespace {

constexpr std::size_t at_most = 512;

// A device's own, which was moved here. Before Linux 5.14 whatever is of no kind counts as such.
bool is_of_a_device(const Interface& interface)
{
    static const bool is_told = !kernel_is_older_than(5, 14);
    return is_told ? interface.has_parent : interface.kind.empty() && !interface.loopback;
}

// Both ends of a pair are interfaces, and guarded where they are the guarded namespace's.
bool stands_elsewhere(const Interface& interface)
{
    return interface.link_netns && interface.kind != "veth" && interface.kind != "netkit";
}

Result<bool> is_reached_past_guard(InterfaceWatch& watch, const std::vector<Interface>& interfaces, int guarded_netns)
{
    if (std::any_of(interfaces.begin(), interfaces.end(), is_of_a_device))
        return true;
    if (std::none_of(interfaces.begin(), interfaces.end(), stands_elsewhere))
        return false;
    // Anybody may stack interfaces on those of another namespace of his own. Telling of an interface has given that
    // namespace its number, if it had none; read again, since the number may have been another's when it was told.
    BULKHEAD_TRY(const auto guarded, watch.number_of(guarded_netns));
    BULKHEAD_TRY(const auto now, watch.interfaces(at_most));
    return guarded && std::any_of(now.begin(), now.end(), [&](const Interface& one) {
               return stands_elsewhere(one) && one.link_netns == *guarded;
           });
}

Result<std::set<IpAddress>> own_addresses(InterfaceWatch& watch, const std::vector<Interface>& interfaces)
{
    BULKHEAD_TRY(const auto addresses, watch.addresses(at_most));
    return counting_as_loopback(addresses, interfaces);
}

} // namespace

Result<NamespaceLinks> namespace_links(int guarded_netns)
{
    BULKHEAD_TRY(InterfaceWatch watch, InterfaceWatch::open());
    BULKHEAD_TRY(const auto interfaces, watch.interfaces(at_most));
    BULKHEAD_TRY(const bool past_guard, is_reached_past_guard(watch, interfaces, guarded_netns));
    return NamespaceLinks{own_addresses(watch, interfaces),
                          past_guard}; // after a list that is too long nothing is told
}

} // namespace bulkhead::agent
