// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h"
#include "common/core/clock.h"
#include "common/core/result.h"
#include "common/policy/plane_image.h"

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

namespace bulkhead::agent {

// Facets of processes (see bh_facet_key): rows to write, in the class numbers of one HostPolicy.
struct FacetRow {
    bh_facet_key key{};
    bh_class_vector classes{};
};
using FacetTable = std::vector<FacetRow>;

// One change of what is enforced: both planes and the facets that go with them, built aside and switched by one write.
struct Realisation {
    const policy::PlaneImage* active = nullptr; // borrowed for the call
    const policy::PlaneImage* shadow = nullptr;
    FacetTable facets;
    std::uint8_t flags = 0; // enum bh_control_flag, without BH_CONTROL_TRIAL
    // A trial: in force until then and, unless confirm()ed, not after; the kernel sees to it by itself. It needs an
    // active plane. A trial that follows a trial leaves the planes that were in force before the first to fall back to.
    std::optional<MonotonicTime> until{};
};

// What the kernel holds of a trial.
struct TrialState {
    enum class Phase { none, running, lapsed }; // lapsed: the time is over, and nobody has called fall_back() yet
    Phase phase = Phase::none;
    MonotonicTime until{};
    std::uint32_t generation = 0;          // of the trial
    std::uint32_t fallback_generation = 0; // of what is in force after it
};

struct WalkedSocket {
    bh_walked_socket socket{};
    bh_subject owner{}; // pid 0: nobody holds it (not yet accepted, or orphaned)
};

struct MapUse {
    std::string name;
    std::uint64_t entries = 0;
    std::uint64_t capacity = 0;
    bool sized_to_content = false; // made as large as what is in it
};

// Something that root changed of what this agent made.
struct Tampering {
    std::string what;
    std::string failure; // why it could not be put right; empty: it is as it was
};

using KernelListeners = std::vector<std::pair<bh_listener_key, bh_listener>>;
using KernelExchanges = std::vector<std::pair<bh_exchange_key, bh_exchange>>;

using Counters = std::map<std::string, std::uint64_t>; // bh_counters, summed over CPUs, by metric-like name

// Who was seen to hear in a network namespace that is not followed: of a BH_EVENT_NAMESPACE.
struct NamespaceHint {
    std::uint32_t inode = 0;
    std::uint32_t pid = 0, tid = 0;
    std::uint32_t user = 0; // who answers for the process
};

struct NamespaceChange {
    // Inode numbers of namespaces that are followed from now on, and in which sockets may have been connected to before
    // there was a door: their sessions are to be judged, whatever `sessions:` says.
    std::vector<std::uint32_t> came;
    // Of the first namespace that could not be followed, of the sockets; it is tried again.
    std::optional<Error> trouble;
    bool unfinished = false; // call follow_hints() soon, also without a hint
};

// The kernel side of one agent. One instance owns one cgroup, the network namespace that the process runs in, and the
// inbound door of the namespaces that the cgroup's processes are in. Links
// and maps are pinned: destroying this object leaves enforcement in place. Not thread-safe, except consume() beside the
// rest.
class Datapath {
public:
    virtual ~Datapath() = default;

    // After begin_datapath(): returns when the interfaces are guarded. On error, what that call attached is removed
    // again. The first realise() waits for it, too, before it puts anything in force.
    virtual Status finish_opening() { return {}; }

    // Builds both planes aside, switches by one write, then frees the old pair (and, unless this is a trial, the pair
    // to fall back to). On error nothing has changed. Returns the new generation.
    virtual Result<std::uint32_t> realise(const Realisation& realisation) = 0;
    // The generation that realise() will return if it is the next change. Above all that were in force before.
    [[nodiscard]] virtual std::uint32_t next_generation() const = 0;

    // Known also of a trial that another process began.
    [[nodiscard]] virtual TrialState trial() const = 0;
    // The running trial is in force for good, and what it would have fallen back to is freed. Refused when there is
    // none, or its time is over.
    virtual Status confirm() = 0;
    // Ends the trial, whether or not its time is over: what was in force before it is in force for good.
    virtual Status fall_back() = 0;

    // Replaces facet rows, row by row (a process set changes; the policy does not), of the planes of that generation:
    // of what is in force, or of what a trial falls back to. Each pair of planes numbers classes in its own way, and
    // which is in force may change between any two calls. Refused, with nothing written, when that generation is
    // neither, as is that of a trial whose time is over. What fails otherwise may have written some rows.
    virtual Status update_facets(std::uint32_t generation, const FacetTable& facets) = 0;

    // Stops enforcing (control word to "no plane") and keeps everything loaded. For a policy that becomes empty.
    virtual Status clear() = 0;

    // What is in force now: of a trial whose time is over, what it falls back to.
    [[nodiscard]] virtual bh_control control() const = 0;

    // The verdict function in the kernel (bh_judge_program), request by request; answers are written in place.
    virtual Status judge(std::span<bh_judge_request> requests) = 0;

    // Every TCP and UDP socket of the agent's network namespace and of those that are followed, with its owner,
    // whatever its cgroup.
    virtual Result<std::vector<WalkedSocket>> walk_sockets() = 0;
    // Only those of these namespaces (inode numbers): the others that are followed are not entered. If there are any,
    // their owners are looked for among all processes.
    virtual Result<std::vector<WalkedSocket>> walk_sockets_in(const std::set<std::uint32_t>& namespaces) = 0;
    // Of those that came: what they accepted before their door was judged, and what was to be destroyed was. Until
    // then, for half a minute at most, they can be walked also when all have left them.
    virtual void judged_newcomers(const std::set<std::uint32_t>& namespaces) = 0;

    // True when the cgroup (by id) is the enforced one or below it, as far as it can be found. What a walk tells of a
    // socket (bh_walked_socket.scope) is surer.
    virtual bool in_scope(std::uint64_t cgroup_id) = 0;

    // Destroys one socket: both ends are told (sock_diag(7), SOCK_DESTROY). False: it is gone, or another socket with
    // its addresses and ports (SO_REUSEPORT) hides it until that is destroyed. Where the socket's namespace is not told
    // (0), it is looked for in all.
    virtual Result<bool> destroy_socket(const bh_walked_socket& socket) = 0;
    // The cookie of the one that the kernel finds now by the addresses and ports of this one, in its namespace: the
    // only one that can be destroyed. 0: none.
    virtual Result<std::uint64_t> find_socket(const bh_walked_socket& socket) = 0;
    // Whether this kernel destroys sockets that a walk comes by (bpf_sock_destroy(), Linux 6.5); the log says why not.
    [[nodiscard]] virtual bool destroys_in_walk() = 0;
    // Destroys UDP sockets in a walk over all of their namespaces, whichever others share their ends, as long as they
    // have the peer that they were walked with. Returns the cookies of those that it destroyed; the log says what could
    // not be walked. Only where destroys_in_walk().
    virtual std::unordered_set<std::uint64_t> destroy_in_walk(std::span<const bh_walked_socket* const> sockets) = 0;

    // Writes the listeners found by a walk into bh_listeners and removes entries whose sockets are gone.
    virtual Status adopt_listeners(std::span<const WalkedSocket> sockets) = 0;

    virtual Result<std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>> udp_flows() = 0;
    // One that the plane in force lets pass whoever takes part may go on for some 64 timer interrupts
    // (bpf/recent_udp.h).
    virtual Status forget_udp_flow(const bh_udp_flow_key& key) = 0;

    // Drains the rings, flow events before denials so that a denial can be told from the tail of a closed connection;
    // waits at most `timeout` when both are empty. Returns how many were delivered. One consumer thread. `settle` is
    // called before some of what was delivered is taken out of the rings, so that it is not lost with this process.
    using EventSink = std::function<void(const bh_event&)>;
    using Settle = std::function<void()>;
    virtual Result<std::size_t> consume(const EventSink& sink, const Settle& settle,
                                        std::chrono::milliseconds timeout) = 0;

    // What was refused since the last call and was not told by consume(): one bh_denial for each kind with its count,
    // in batches. The counts are forgotten when `sink` has had all of them; of a process that dies in between, the next
    // one gets them again. Call about once a second.
    using DenialSink = std::function<void(std::span<const bh_denial>)>;
    virtual Status take_denials(const DenialSink& sink) = 0;

    // What passed the guard and is remembered for its answers. Forgets what is over.
    virtual Result<KernelExchanges> exchanges() { return KernelExchanges{}; }

    // Another version's programs decide, whose maps have another layout (what differs, in words), because it is not
    // known yet what ours are to enforce: the next realise() puts ours into their place. nullopt: ours decide.
    [[nodiscard]] virtual std::optional<std::string> pending_takeover() const { return std::nullopt; }
    // The generation that these enforce for good, whatever is on trial. nullopt: there are none, or it cannot be told.
    [[nodiscard]] virtual std::optional<std::uint32_t> pending_generation() const { return std::nullopt; }

    // The host is cut off, by our programs or by those of another version that decide yet.
    [[nodiscard]] virtual bool in_quarantine() const { return (control().flags & BH_CONTROL_QUARANTINE) != 0; }

    // Looks at links, pins, control word and planes, puts right what is not as it was made, and says what it found.
    // Call at least twice a second.
    virtual std::vector<Tampering> look_for_tampering() { return {}; }

    virtual Counters counters() = 0;
    virtual std::vector<MapUse> map_use() = 0;

    // Readable when interfaces or addresses of the namespace have changed: call follow_interfaces() soon, and once a
    // second anyway. -1: nothing to follow.
    [[nodiscard]] virtual int interface_events() { return -1; }
    // Guards interfaces that came, forgets those that went, and knows the addresses as they are now. The error names
    // the first interface that could not be guarded; it is tried again at the next call.
    virtual Status follow_interfaces() { return {}; }
    // Puts the inbound door into the network namespaces that hold workloads now, and forgets those that are gone. Call
    // it once a second.
    virtual NamespaceChange follow_namespaces() { return {}; }
    // The same for those of whom a BH_EVENT_NAMESPACE told: at once. It takes milliseconds, whatever was made to be
    // looked through; the trouble is told by follow_namespaces().
    virtual NamespaceChange follow_hints(std::span<const NamespaceHint> hints)
    {
        (void)hints;
        return {};
    }
    // Readable when a cgroup is being made below the enforced one by the owner of that, since take_new_cgroups() was
    // last called: it can be seen a moment later. What is made meanwhile wakes nobody. -1: the kernel does not tell.
    [[nodiscard]] virtual int cgroup_events() { return -1; }
    // Whether there was any.
    virtual bool take_new_cgroups() { return false; }
    // Names of the interfaces that the guard is on, sorted.
    [[nodiscard]] virtual std::vector<std::string> guarded_interfaces() const { return {}; }
    // How it is attached there: "tcx" or "clsact".
    [[nodiscard]] virtual std::string guard_kind() const { return {}; }
    // Those of them at which XDP drops, during a quarantine, what the guard would drop of what arrives.
    [[nodiscard]] virtual std::vector<std::string> early_drop_interfaces() const { return {}; }
    // IngressOptions; for every packet of a socket, as long as this is so.
    [[nodiscard]] virtual bool judges_at_sockets() const { return false; }
    // Inode numbers of the network namespaces, other than the agent's own, in which the inbound door stands.
    [[nodiscard]] virtual std::vector<std::uint32_t> followed_namespaces() const { return {}; }

    // Tables as they are at this moment, for people to look at.
    [[nodiscard]] virtual KernelListeners listeners() { return {}; }
    [[nodiscard]] virtual std::vector<bh_denial> denials_in_table() { return {}; } // leaves them there
};

// The packet guard: what is judged on interfaces, for want of a door.
struct GuardOptions {
    bool attach = false;
    std::vector<std::string> interfaces; // names; empty: all but loopback
    bool force_clsact = false;           // for tests on kernels that have tcx
    bool early_drop = true;              // during a quarantine, by XDP where an interface's driver has it
};

// Whether what reaches sockets is judged there, in network namespaces in which no inbound door stands.
struct IngressOptions {
    bool attach = true;  // when packets may come to one past the guard
    bool always = false; // from the start
};

struct DatapathOptions {
    std::string cgroup;                           // a cgroup v2 folder; required
    std::string pin_dir = "/sys/fs/bpf/bulkhead"; // below it, one folder an instance
    std::string instance;                         // default: instance_name(cgroup)
    GuardOptions guard{};
    IngressOptions ingress{};
    // A refused inbound attempt gets no answer at all, instead of a reset or port unreachable. Needs the guard.
    bool refuse_silently = false;
    // Called now and then while something takes long that grows with what others have made: descriptors, sockets.
    std::function<void()> on_progress = [] {};
    bool only_oldest_features = false; // for tests: as on a kernel without any of KernelFeatures
};

// "host" for the root of the hierarchy, else the path below it with '/' written as '-': names the pin folder, so agents
// on different cgroups of one machine do not touch each other.
[[nodiscard]] std::string instance_name(const std::string& cgroup);
// Where the instance pins; there while something of it is in the kernel.
[[nodiscard]] std::string pin_folder(const DatapathOptions& options);

// The cgroup v2 mount, also on hybrid hierarchies (/sys/fs/cgroup/unified).
[[nodiscard]] Result<std::string> find_cgroup2_root();

// What this kernel and these privileges lack; empty: everything needed is there. Each entry is one line for the admin.
[[nodiscard]] std::vector<std::string> missing_features(const DatapathOptions& options);

// Loads the programs, or takes over what is pinned (links are updated in place, so there is no moment without a
// program; maps, the planes in force among them, are kept). Enforces nothing new by itself. Fails whole: if any part
// cannot be attached, what this call attached is removed again.
[[nodiscard]] Result<std::unique_ptr<Datapath>> open_datapath(const DatapathOptions& options);
// The same, but does not wait for the guard: to attach it takes two grace periods of RCU an interface (some 10 ms
// each), in which something else can be done. The host is guarded when finish_opening() has returned.
[[nodiscard]] Result<std::unique_ptr<Datapath>> begin_datapath(const DatapathOptions& options);

// Removes all pins of the instance, so that the kernel detaches. True when there was something.
[[nodiscard]] Result<bool> detach_datapath(const DatapathOptions& options);

} // namespace bulkhead::agent
