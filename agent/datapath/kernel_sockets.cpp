// SPDX-License-Identifier: Apache-2.0
// KernelDatapath: live sockets, in all namespaces that are followed.
#include "agent/datapath/in_namespace.h"
#include "agent/datapath/kernel_datapath.h"
#include "agent/datapath/listeners.h"
#include "common/core/clock.h"
#include "common/core/log.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace bulkhead::agent {

namespace {

void tell_of(Status done, NamespaceChange& change)
{
    if (done)
        return;
    if (change.trouble)
        change.trouble->message += "; " + done.error().message;
    else
        change.trouble = std::move(done).error();
}

tl::unexpected<Error> unreachable(std::uint32_t netns)
{
    return fail(ErrorKind::failed, "network namespace {} cannot be reached", netns);
}

} // namespace

Result<std::vector<WalkedSocket>> KernelDatapath::walk_sockets()
{
    return walk_where([](std::uint32_t) { return true; });
}

Result<std::vector<WalkedSocket>> KernelDatapath::walk_sockets_in(const std::set<std::uint32_t>& namespaces)
{
    return walk_where([&](std::uint32_t inode) { return namespaces.contains(inode); });
}

Result<std::vector<WalkedSocket>> KernelDatapath::walk_where(const std::function<bool(std::uint32_t)>& wanted)
{
    walk_began_ = system_clock().monotonic();
    walked_.clear();
    return parts_.walk.walk([&](const SocketWalk::Look& look) -> Status {
        Status done;
        const auto enter = [&](std::uint32_t inode, int netns) {
            auto looked = in_namespace(netns, look);
            if (looked)
                walked_.insert(inode);
            else if (done)
                done = std::move(looked);
        };
        if (const auto own = namespace_inode(parts_.netns.get()); wanted(own))
            enter(own, parts_.netns.get());
        parts_.namespaces.visit(wanted, enter);
        return done;
    });
}

void KernelDatapath::judged_newcomers(const std::set<std::uint32_t>& namespaces)
{
    parts_.namespaces.judged(namespaces);
}

bool KernelDatapath::in_scope(std::uint64_t cgroup_id)
{
    if (parts_.enforced_cgroup == parts_.cgroups.root_id())
        return true;
    const bh_cgroup_path& path = parts_.cgroups.enclosing(cgroup_id);
    return std::find(std::begin(path.id), std::end(path.id), parts_.enforced_cgroup) != std::end(path.id);
}

Result<bool> KernelDatapath::destroy_socket(const bh_walked_socket& socket)
{
    if (socket.netns != 0) {
        SockDiag* diag = sock_diag_of(socket.netns);
        return diag != nullptr ? diag->destroy(socket) : unreachable(socket.netns);
    }
    Result<bool> done = parts_.sock_diag.destroy(socket);
    parts_.namespaces.visit([](std::uint32_t) { return true; },
                            [&](std::uint32_t inode, int) {
                                SockDiag* diag = sock_diag_of(inode);
                                if (diag == nullptr)
                                    return;
                                auto tried = diag->destroy(socket);
                                if (!tried || (done && *tried))
                                    done = std::move(tried);
                            });
    return done;
}

Result<std::uint64_t> KernelDatapath::find_socket(const bh_walked_socket& socket)
{
    SockDiag* diag = sock_diag_of(socket.netns);
    return diag != nullptr ? diag->find(socket) : unreachable(socket.netns);
}

bool KernelDatapath::destroys_in_walk()
{
    const auto loaded = parts_.destroyer.load();
    const auto error = loaded ? std::string() : loaded.error().message;
    if (error != std::exchange(destroyer_error_, error) && !error.empty())
        log_warning("sessions: UDP sockets that share a port with many are destroyed slowly: {}",
                    loaded.error().message);
    return loaded.value_or(false);
}

std::unordered_set<std::uint64_t> KernelDatapath::destroy_in_walk(std::span<const bh_walked_socket* const> sockets)
{
    std::map<std::uint32_t, std::vector<const bh_walked_socket*>> by_namespace;
    for (const auto* socket : sockets)
        by_namespace[socket->netns].push_back(socket);
    std::unordered_set<std::uint64_t> destroyed;
    for (const auto& [inode, some] : by_namespace) {
        const bool is_own = inode == namespace_inode(parts_.netns.get());
        const UniqueFd other = is_own ? UniqueFd() : parts_.namespaces.open(inode);
        if (!is_own && !other)
            continue;
        const auto done = in_namespace(is_own ? parts_.netns.get() : other.get(),
                                       [&, &some = some] { return parts_.destroyer.destroy(some, destroyed); });
        if (!done)
            log_warning("sessions: not every UDP socket that is to be destroyed was walked by: {}",
                        done.error().message);
    }
    return destroyed;
}

// nullptr: the namespace is not followed, or gone.
SockDiag* KernelDatapath::sock_diag_of(std::uint32_t netns)
{
    if (netns == namespace_inode(parts_.netns.get()))
        return &parts_.sock_diag;
    if (const auto known = sock_diags_.find(netns); known != sock_diags_.end())
        return &known->second;
    const UniqueFd fd = parts_.namespaces.open(netns);
    std::optional<SockDiag> opened;
    if (fd)
        (void)in_namespace(fd.get(), [&]() -> Status {
            BULKHEAD_TRY(opened, SockDiag::open());
            return {};
        });
    return opened ? &sock_diags_.emplace(netns, std::move(*opened)).first->second : nullptr;
}

Status KernelDatapath::adopt_listeners(std::span<const WalkedSocket> sockets)
{
    return adopt_walked_listeners(
        {bpf_map__fd(parts_.skeleton->maps.bh_listeners), bpf_map__fd(parts_.skeleton->maps.bh_listener_holders)},
        sockets, parts_.cgroups, walked_, walk_began_);
}

NamespaceChange KernelDatapath::follow_namespaces()
{
    sock_diags_.clear();
    if (predecessor_)
        return {};              // its gates stand where they stood
    static_cast<void>(guard()); // begin_guarding() writes to the table of own addresses, too
    auto change = parts_.namespaces.follow();
    tell_of(follow_ingress(), change);
    change.came.insert(change.came.end(), parts_.unjudged.begin(), parts_.unjudged.end());
    parts_.unjudged.clear();
    return change;
}

NamespaceChange KernelDatapath::follow_hints(std::span<const NamespaceHint> hints)
{
    sock_diags_.clear();
    if (predecessor_)
        return {};
    static_cast<void>(guard());
    auto change = parts_.namespaces.follow(hints);
    tell_of(follow_ingress(), change);
    return change;
}

Status KernelDatapath::follow_ingress()
{
    return parts_.ingress.follow(guard().any_made_to_be_moved() || parts_.namespaces.any_past_guard(),
                                 *parts_.attachments);
}

} // namespace bulkhead::agent
