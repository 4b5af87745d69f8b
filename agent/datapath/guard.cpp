// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/guard.h"

#include "agent/datapath/in_namespace.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>

namespace bulkhead::agent {

namespace {

// How many interfaces are looked at closely in one round (is the pin ours?); the others when it is their turn. A
// question to the kernel about an interface waits for whoever changes one (RTNL), and there may be hundreds of
// containers.
constexpr std::size_t close_looks = 32;

void write_broadcasts(::datapath& skeleton, const std::vector<InterfaceAddress>& addresses)
{
    std::set<std::uint32_t> wanted;
    for (const auto& one : addresses)
        wanted.insert(one.broadcasts.begin(), one.broadcasts.end());
    auto* bss = skeleton.bss;
    // Never fewer than before in between: what is doubtful is looked at closely.
    const bool more = wanted.size() > BH_SUBNET_BROADCASTS;
    bss->subnet_broadcasts_more = 1;
    std::size_t i = 0;
    for (const auto broadcast : wanted)
        if (i < BH_SUBNET_BROADCASTS)
            bss->subnet_broadcasts[i++] = broadcast;
    while (i < BH_SUBNET_BROADCASTS)
        bss->subnet_broadcasts[i++] = 0;
    bss->subnet_broadcasts_more = more ? 1 : 0;
}

// Of the calling thread's namespace. The name is that below net, with slashes (sysctl(8)).
bool sysctl_is_set(const std::string& name)
{
    std::ifstream file("/proc/sys/net/" + name);
    int value = 0;
    return (file >> value) && value != 0;
}

// Whether the calling thread's namespace routes between interfaces. ipv4/ip_forward is another name of
// ipv4/conf/all/forwarding.
bool forwards(const std::vector<Interface>& interfaces)
{
    return sysctl_is_set("ipv4/conf/all/forwarding") || sysctl_is_set("ipv6/conf/all/forwarding") ||
           std::any_of(interfaces.begin(), interfaces.end(), [](const Interface& one) { return one.forwards; });
}

bool accepts_own(const std::vector<Interface>& interfaces)
{
    return sysctl_is_set("ipv4/conf/all/accept_local") ||
           std::any_of(interfaces.begin(), interfaces.end(), [](const Interface& one) { return one.accepts_own; });
}

} // namespace

Result<Guard> Guard::open(const PinFolder& pins, ::datapath& skeleton, Spare spare, const GuardOptions& options,
                          int netns)
{
    BULKHEAD_TRY(InterfaceWatch watch, InterfaceWatch::open());
    Guard guard(pins, skeleton, std::move(spare), options, netns, std::move(watch));
    guard.kind_ =
        options.force_clsact ? TcKind::clsact : find_tc_kind(bpf_program__fd(skeleton.progs.bh_guard_in_ether));
    // What can fail for want of memory fails before the first program acts.
    BULKHEAD_CHECK(in_namespace(netns, [&guard]() -> Status {
        BULKHEAD_TRY(const auto present, guard.watch_.interfaces());
        const bool needed = std::any_of(present.begin(), present.end(), [&guard](const Interface& one) {
            return guard.wanted(one) && one.header != LinkHeader::ethernet;
        });
        return needed ? guard.bare_programs_->load() : Status();
    }));
    return guard;
}

bool Guard::wanted(const Interface& interface) const
{
    if (!options_.attach || interface.loopback || interface.header == LinkHeader::unknown)
        return false;
    const auto& names = options_.interfaces;
    return names.empty() || std::find(names.begin(), names.end(), interface.name) != names.end();
}

Result<Guard::Sides> Guard::sides(const Interface& interface)
{
    if (const auto known = sides_.find(interface.header); known != sides_.end())
        return known->second;
    const bool ethernet = interface.header == LinkHeader::ethernet;
    if (!ethernet)
        BULKHEAD_CHECK(bare_programs_->load());
    const auto& programs = skeleton_->progs;
    const int in = ethernet ? bpf_program__fd(programs.bh_guard_in_ether) : bare_programs_->program("bh_guard_in_bare");
    const int out =
        ethernet ? bpf_program__fd(programs.bh_guard_out_ether) : bare_programs_->program("bh_guard_out_bare");
    const Sides both{{{PacketSide::entering, in, program_id(in)}, {PacketSide::leaving, out, program_id(out)}}};
    if (both[0].id != 0 && both[1].id != 0)
        sides_[interface.header] = both;
    return both;
}

// What a pin names is not looked at.
bool Guard::acts(const Interface& interface, const Side& side, const PinNames& pins)
{
    if (side.id == 0)
        return false;
    if (kind_ == TcKind::clsact)
        return watch_.program_of(our_filter(interface.index, side.side)).value_or(0) == side.id;
    const auto held = links_.find({interface.index, side.side});
    if (held == links_.end() || !held->second || !pins.contains(guard_pin(interface.index, side.side)))
        return false;
    const auto programs = tcx_programs(interface.index, side.side);
    return std::find(programs.begin(), programs.end(), side.id) != programs.end();
}

Status Guard::attach(const Interface& interface, const PinNames& pins, bool closely)
{
    const auto both = sides(interface);
    if (!both)
        return tl::unexpected(Error(both.error()).within(fmt::format("guard interface {}", interface.name)));
    for (const auto& one : *both) {
        const auto& [side, program, id] = one;
        if (!closely && acts(interface, one, pins))
            continue;
        auto there = attached_program(kind_, pins_, interface.index, side);
        if (there == 0 && mend_pin(interface, side))
            there = attached_program(kind_, pins_, interface.index, side);
        if (id != 0 && there == id) {
            hold(interface, side);
            continue;
        }
        if (std::any_of(guarded_.begin(), guarded_.end(),
                        [&](const Interface& before) { return before.index == interface.index; }))
            mended_.push_back(fmt::format("the guard of interface {} was taken away", interface.name));
        if (auto attached = attach_to_interface(kind_, pins_, interface.index, side, program); !attached)
            return tl::unexpected(
                std::move(attached).error().within(fmt::format("guard interface {}", interface.name)));
        links_.erase({interface.index, side});
        hold(interface, side);
    }
    return {};
}

void Guard::hold(const Interface& interface, PacketSide side)
{
    if (kind_ == TcKind::tcx && !links_.contains({interface.index, side}))
        links_[{interface.index, side}] = UniqueFd(bpf_obj_get(pins_.link(guard_pin(interface.index, side)).c_str()));
}

// Of the agent before, since ours could not be put in its place.
bool Guard::runs_anothers(const Interface& interface)
{
    const auto ours = sides(interface); // which may be impossible to load
    const auto is_anothers = [&](PacketSide side, std::size_t place) {
        const auto there = attached_program(kind_, pins_, interface.index, side);
        return there != 0 && (!ours || there != (*ours)[place].id);
    };
    return is_anothers(PacketSide::entering, 0) || is_anothers(PacketSide::leaving, 1);
}

// Of a link that acts, but whose pin was removed. True: it is pinned again.
bool Guard::mend_pin(const Interface& interface, PacketSide side)
{
    const auto held = links_.find({interface.index, side});
    const std::string path = pins_.link(guard_pin(interface.index, side));
    if (held == links_.end())
        return false;
    const bool acts = held->second && acts_on(held->second.get(), interface.index, side);
    if (acts && pins_.prepare() && (::unlink(path.c_str()) == 0 || errno == ENOENT) &&
        bpf_obj_pin(held->second.get(), path.c_str()) == 0) {
        mended_.push_back(fmt::format("the pin of the guard of interface {} was removed", interface.name));
        return true;
    }
    links_.erase(held);
    return false;
}

// On interfaces that went while no agent ran: to another namespace, or for good.
void Guard::remove_stale_pins(const std::vector<Interface>& present)
{
    std::set<std::string> here;
    for (const auto& interface : present)
        for (const auto side : {PacketSide::entering, PacketSide::leaving})
            here.insert(guard_pin(interface.index, side));
    for (const auto& name : pins_.links()) {
        if (!name.starts_with(guard_pin_prefix) || here.contains(name))
            continue;
        if (const UniqueFd link(bpf_obj_get(pins_.link(name).c_str())); link)
            (void)bpf_link_detach(link.get());
        (void)::unlink(pins_.link(name).c_str());
    }
}

Status Guard::follow()
{
    // First: with the guard there, a source that is not known is a forged one.
    BULKHEAD_TRY(auto present, write_addresses());
    return in_namespace(netns_, [&] { return follow_interfaces(std::move(present)); });
}

Status Guard::follow_interfaces(std::vector<Interface> present)
{
    if (!std::exchange(followed_, true))
        remove_stale_pins(present);
    // The first of the others waits until its programs are loaded; these do not wait with it.
    std::stable_partition(present.begin(), present.end(),
                          [](const Interface& one) { return one.header == LinkHeader::ethernet; });
    skeleton_->bss->host_forwards = forwards(present) ? 1 : 0;
    skeleton_->bss->host_accepts_own = accepts_own(present) ? 1 : 0;
    skeleton_->bss->host_binds_anywhere =
        sysctl_is_set("ipv4/ip_nonlocal_bind") || sysctl_is_set("ipv6/ip_nonlocal_bind") ? 1 : 0;
    Status first_failure;
    std::vector<Interface> guarded;
    bool others = false;
    const auto names = kind_ == TcKind::tcx ? pins_.links() : std::vector<std::string>();
    const PinNames pins(names.begin(), names.end());
    const std::size_t first_close = present.empty() ? 0 : looked_closely_ % present.size();
    for (std::size_t i = 0; i < present.size(); ++i) {
        const auto& interface = present[i];
        const bool closely = (i + present.size() - first_close) % present.size() < close_looks;
        if (options_.attach && interface.header == LinkHeader::unknown && unreadable_.insert(interface.index).second)
            log_warning(
                "{} is not guarded: its frames begin in a way that the guard does not know (neither Ethernet nor "
                "IP)",
                interface.name);
        if (!wanted(interface)) {
            for (const auto side : {PacketSide::entering, PacketSide::leaving}) // of another setting, or renamed
                if (attached_program(kind_, pins_, interface.index, side) != 0) {
                    links_.erase({interface.index, side});
                    detach_from_interface(kind_, pins_, interface.index, side);
                }
            continue;
        }
        auto attached = attach(interface, pins, closely);
        if (attached)
            guarded.push_back(interface);
        else
            others = others || runs_anothers(interface);
        if (!attached && first_failure)
            first_failure = std::move(attached);
    }
    any_of_another_ = others;
    looked_closely_ += close_looks;
    std::set<int> here;
    for (const auto& interface : present)
        here.insert(interface.index);
    for (const auto& before : guarded_) {
        if (!here.contains(before.index))
            for (const auto side : {PacketSide::entering, PacketSide::leaving}) {
                links_.erase({before.index, side});
                detach_from_interface(kind_, pins_, before.index, side); // its pin; the filter went with it
            }
    }
    guarded_ = std::move(guarded);
    return first_failure;
}

void Guard::follow_quarantine()
{
    (void)in_namespace(netns_, [this]() -> Status {
        early_drop_.follow(guarded_);
        return {};
    });
}

Status Guard::follow_addresses()
{
    BULKHEAD_CHECK(write_addresses());
    return {};
}

Result<std::vector<Interface>> Guard::write_addresses()
{
    BULKHEAD_TRY(auto interfaces, watch_.interfaces());
    BULKHEAD_TRY(auto addresses, watch_.addresses());
    made_to_be_moved_ = made_to_be_moved_ ||
                        std::any_of(interfaces.begin(), interfaces.end(),
                                    [](const Interface& one) { return one.kind == "macvlan" || one.kind == "ipvlan"; });
    if (addresses == addresses_ && interfaces == interfaces_)
        return interfaces;
    auto told = own_addresses_.set_guarded(addresses, interfaces);
    write_broadcasts(*skeleton_, addresses); // where there are more than fit, those marks decide
    BULKHEAD_CHECK(std::move(told));
    addresses_ = std::move(addresses);
    interfaces_ = interfaces;
    return interfaces;
}

std::vector<std::string> Guard::interfaces() const
{
    std::vector<std::string> names;
    for (const auto& one : guarded_)
        names.push_back(one.name);
    std::sort(names.begin(), names.end());
    return names;
}

void remove_guard_filters(const PinFolder& pins)
{
    auto watch = InterfaceWatch::open();
    if (!watch)
        return;
    const auto present = watch->interfaces();
    if (!present)
        return;
    for (const auto& interface : *present) {
        bool was_there = false;
        for (const auto side : {PacketSide::entering, PacketSide::leaving})
            if (attached_program(TcKind::clsact, pins, interface.index, side) != 0) {
                detach_from_interface(TcKind::clsact, pins, interface.index, side);
                was_there = true;
            }
        // Who added the discipline is not known any more; empty, it does nothing.
        if (const auto others = watch->has_filters(interface.index); was_there && others && !*others)
            remove_clsact(interface.index);
    }
}

} // namespace bulkhead::agent
