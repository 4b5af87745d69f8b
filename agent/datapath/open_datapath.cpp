// SPDX-License-Identifier: Apache-2.0
// Loads the programs and puts them to their hooks, or finds those that are there.
#include "agent/datapath/attachments.h"
#include "agent/datapath/kernel_datapath.h"
#include "agent/datapath/libbpf_messages.h"
#include "agent/datapath/pins.h"
#include "agent/datapath/programs.h"
#include "common/core/log.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace bulkhead::agent {

namespace {

struct OpenPlaces {
    UniqueFd cgroup, netns;
    AttachPoint point;
    std::uint32_t cgroup_owner = 0;
};

Result<OpenPlaces> open_places(const DatapathOptions& options)
{
    OpenPlaces places;
    BULKHEAD_TRY(places.point.cgroup_id, cgroup_id_of(options.cgroup));
    places.cgroup = UniqueFd(::open(options.cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!places.cgroup)
        return fail_errno(errno, fmt::format("open {}", options.cgroup));
    struct stat status {};
    if (::fstat(places.cgroup.get(), &status) != 0)
        return fail_errno(errno, fmt::format("look at {}", options.cgroup));
    places.cgroup_owner = status.st_uid;
    places.netns = UniqueFd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!places.netns || ::fstat(places.netns.get(), &status) != 0)
        return fail_errno(errno, "open the network namespace");
    places.point.cgroup = places.cgroup.get();
    places.point.netns = places.netns.get();
    places.point.netns_inode = static_cast<std::uint32_t>(status.st_ino);
    return places;
}

// The namespace of init, or of kthreadd where init may not be looked at. Any other is of those alone who were put
// there.
bool is_host_namespace(std::uint32_t netns)
{
    bool any_seen = false;
    for (const char* path : {"/proc/1/ns/net", "/proc/2/ns/net"}) {
        struct stat status {};
        if (::stat(path, &status) != 0)
            continue;
        any_seen = true;
        if (static_cast<std::uint32_t>(status.st_ino) == netns)
            return true;
    }
    return !any_seen;
}

ProgramSettings settings_for(const DatapathOptions& options, const AttachPoint& where, CgroupTree& cgroups)
{
    ProgramSettings settings;
    settings.scope_is_root = where.cgroup_id == cgroups.root_id();
    settings.guarded_netns = where.netns_inode;
    settings.scope_cgroup = where.cgroup_id;
    settings.scope_level = cgroups.level_of(where.cgroup_id);
    settings.guard_namespace = settings.scope_is_root || !is_host_namespace(where.netns_inode);
    settings.refuse_silently = options.refuse_silently;
    settings.only_oldest_features = options.only_oldest_features;
    return settings;
}

// Removes what a first start has pinned, unless it is told that all went well.
class FirstStart {
public:
    explicit FirstStart(const PinFolder& pins) : pins_(pins) {}
    FirstStart(const FirstStart&) = delete;
    FirstStart& operator=(const FirstStart&) = delete;
    ~FirstStart()
    {
        if (undo_)
            (void)pins_.remove();
        else
            pins_.remove_if_empty();
    }
    void begins() { undo_ = true; }
    void succeeded() { undo_ = false; }

private:
    const PinFolder& pins_;
    bool undo_ = false;
};

// Puts our programs to their hooks, but for the guard, over pinned maps of ours or new ones.
Status attach_all(KernelDatapath::Parts& parts, const PinnedMaps& before)
{
    BULKHEAD_TRY(parts.attachments, Attachments::make(parts.pins, parts.where, *parts.skeleton, parts.ingress.hooks(),
                                                      [] { return Status(); }));
    parts.ingress.begin(parts.pins, *parts.attachments);
    BULKHEAD_CHECK(parts.guard.follow_addresses());
    if (const auto gates = parts.namespaces.take_over(); !gates)
        log_error("{}", gates.error().message); // what they call goes on
    auto change = parts.namespaces.follow(Namespaces::at_a_start);
    if (change.trouble)
        log_error("{}", change.trouble->message);
    // Namespaces that are there when this instance starts for the first time are like the agent's own: `sessions:` says
    // what becomes of what is open in them.
    if (before.kind == PinnedMaps::Kind::adopted)
        parts.unjudged = std::move(change.came);
    else
        parts.namespaces.judged({change.came.begin(), change.came.end()});
    return {};
}

} // namespace

Result<std::unique_ptr<Datapath>> begin_datapath(const DatapathOptions& options)
{
    BULKHEAD_TRY(const std::string root, find_cgroup2_root());
    BULKHEAD_TRY(CgroupTree cgroups, CgroupTree::open(root));
    BULKHEAD_TRY(OpenPlaces places, open_places(options));
    const PinFolder pins(options);
    BULKHEAD_CHECK(pins.prepare());
    BULKHEAD_CHECK(finish_replacing_pins(pins));
    FirstStart first_start(pins);

    const ProgramSettings settings = settings_for(options, places.point, cgroups);
    BULKHEAD_TRY(LoadedPrograms loaded, load_programs(pins, settings));
    // Everything that can fail for want of something comes before the first program acts.
    auto& maps = loaded.skeleton->maps;
    BULKHEAD_TRY(ControlWord control, ControlWord::map(bpf_map__fd(maps.bh_control)));
    BULKHEAD_TRY(auto rings, Rings::open(bpf_map__fd(maps.bh_flow_ring), bpf_map__fd(maps.bh_deny_ring)));
    BULKHEAD_TRY(SocketWalk walk,
                 SocketWalk::attach(*loaded.skeleton, loaded.features.cookies_in_walk, options.on_progress));
    BULKHEAD_TRY(SockDiag sock_diag, SockDiag::open());
    BULKHEAD_TRY(Guard guard, Guard::open(pins, *loaded.skeleton, {loaded.bare_guards, loaded.early_drop},
                                          options.guard, places.point.netns));
    Namespaces namespaces(pins, *loaded.skeleton, loaded.elsewhere, places.point.netns, settings.guarded_netns,
                          options.cgroup);
    BULKHEAD_CHECK(namespaces.open_pinned());
    KernelDatapath::Parts parts{std::move(loaded.skeleton),
                                std::move(control),
                                std::move(rings),
                                std::move(walk),
                                std::move(sock_diag),
                                SocketDestroyer(options.on_progress, options.only_oldest_features),
                                CgroupWatch({settings.scope_cgroup, settings.scope_level, places.cgroup_owner}),
                                std::move(cgroups),
                                places.point.cgroup_id,
                                std::move(places.netns),
                                std::move(guard),
                                std::move(namespaces),
                                SocketIngress(loaded.ingress, options.ingress),
                                pins,
                                std::move(places.cgroup),
                                places.point,
                                {},
                                {}};
    BULKHEAD_CHECK(parts.ingress.prepare(pins));
    if (loaded.maps.kind == PinnedMaps::Kind::other_layout) {
        auto opened = std::make_unique<KernelDatapath>(std::move(parts),
                                                       Predecessor::find(pins, loaded.maps.difference), std::nullopt);
        if (!opened->predecessor_enforces())
            BULKHEAD_CHECK(opened->take_over());
        return opened;
    }
    if (loaded.maps.kind == PinnedMaps::Kind::none) {
        first_start.begins();
        BULKHEAD_CHECK(pin_maps(pins.path() + "/maps", parts.skeleton->obj));
    }
    BULKHEAD_CHECK(attach_all(parts, loaded.maps));
    first_start.succeeded();
    auto replaced = Predecessor::find_replaced(pins);
    const bool finishes_a_takeover = replaced.has_value();
    auto opened = std::make_unique<KernelDatapath>(std::move(parts), std::nullopt, std::move(replaced));
    if (finishes_a_takeover)
        opened->remove_links_of_another();
    opened->begin_guarding(loaded.maps.kind == PinnedMaps::Kind::none);
    return opened;
}

Result<std::unique_ptr<Datapath>> open_datapath(const DatapathOptions& options)
{
    BULKHEAD_TRY(auto opened, begin_datapath(options));
    BULKHEAD_CHECK(opened->finish_opening());
    return opened;
}

Result<bool> detach_datapath(const DatapathOptions& options)
{
    const PinFolder pins(options);
    log_libbpf_messages();
    remove_guard_filters(pins);
    return pins.remove();
}

} // namespace bulkhead::agent
