// SPDX-License-Identifier: Apache-2.0
#include "agent/sessions/sessions.h"

#include "common/core/log.h"
#include "common/net/ip.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <tuple>
#include <utility>

namespace bulkhead::agent {
namespace {

constexpr std::uint8_t tcp_new_syn_recv = 12; // include/net/tcp_states.h; a handshake under way has no full socket yet
constexpr auto second_look = std::chrono::seconds(1);
constexpr auto search_at_most = std::chrono::milliseconds(200);
constexpr int most_misses = 3;
constexpr std::size_t few_neighbours = 64; // among whom the kernel finds a socket at once
constexpr std::size_t judged_at_once = 4096;

// A byte of it can still reach an application.
bool is_session(const bh_walked_socket& socket)
{
    if (socket.protocol == IPPROTO_UDP)
        return socket.state == TCP_ESTABLISHED;
    if (socket.protocol != IPPROTO_TCP)
        return false;
    switch (socket.state) {
    case TCP_ESTABLISHED:
    case TCP_SYN_SENT:
    case TCP_SYN_RECV:
    case tcp_new_syn_recv:
    case TCP_FIN_WAIT1:
    case TCP_FIN_WAIT2:
    case TCP_CLOSE_WAIT: return true;
    default: return false;
    }
}

// Which end opened a session; or which one likely did, if nothing says so.
struct Opening {
    policy::Direction direction = policy::Direction::outbound;
    bool known = true;
};

Opening opening_of(const bh_walked_socket& socket, const WalkedSocket* listener, const DirectionOf& recorded)
{
    if (socket.protocol == IPPROTO_UDP) { // whoever listens at its port has not accepted it
        if (socket.opened == BH_OPENED_UNKNOWN)
            return {recorded(socket).value_or(policy::Direction::outbound)};
        return {socket.opened == BH_OPENED_BY_PEER ? policy::Direction::inbound : policy::Direction::outbound};
    }
    if (socket.protocol == IPPROTO_TCP) {
        // By the kernel; what was recorded may be of a simultaneous open, which looks like an accepted one.
        if (socket.state == TCP_SYN_SENT || socket.opened == BH_OPENED_BY_CONNECT)
            return {policy::Direction::outbound};
        if (socket.state == TCP_SYN_RECV || socket.state == tcp_new_syn_recv)
            return {policy::Direction::inbound};
    }
    if (const auto known = recorded(socket))
        return {*known};
    if (socket.opened == BH_OPENED_BY_CONNECT)
        return {policy::Direction::outbound};
    if (listener != nullptr) // connect(2) is given no port on which somebody listens
        return {policy::Direction::inbound};
    return {policy::Direction::outbound, false}; // its listener may have gone
}

// Of a socket that nobody holds, its cgroup and user are known still.
bh_subject subject_of(const WalkedSocket& walked)
{
    auto subject = walked.owner;
    if (subject.pid == 0) {
        subject.cgroup_id = walked.socket.cgroup_id;
        subject.uid = walked.socket.uid;
    }
    return subject;
}

std::uint64_t cgroup_of(const WalkedSocket& walked, const WalkedSocket* listener)
{
    if (walked.socket.cgroup_id != 0)
        return walked.socket.cgroup_id;
    return listener != nullptr ? listener->socket.cgroup_id : walked.owner.cgroup_id;
}

bh_judge_request request_for(std::uint32_t netns, const bh_address& remote, std::uint16_t remote_port,
                             std::uint16_t local_port, std::uint8_t protocol, policy::Direction direction,
                             const bh_subject& subject)
{
    bh_judge_request request{};
    request.netns = netns;
    request.remote = remote;
    request.subject = subject;
    request.port = direction == policy::Direction::outbound ? remote_port : local_port;
    request.protocol = protocol;
    request.direction = static_cast<std::uint8_t>(direction);
    return request;
}

template <typename Key>
std::string bytes_of(const Key& key)
{
    static_assert(std::has_unique_object_representations_v<Key>);
    std::string bytes(sizeof(key), '\0');
    std::memcpy(bytes.data(), &key, sizeof(key));
    return bytes;
}

std::string local_end_of(const bh_walked_socket& socket)
{
    return bytes_of(socket.netns) + bytes_of(socket.local) + bytes_of(socket.local_port);
}

// By which the kernel finds a socket.
std::string ends_of(const bh_walked_socket& socket)
{
    return local_end_of(socket) + bytes_of(socket.remote) + bytes_of(socket.remote_port) + bytes_of(socket.protocol) +
           bytes_of(socket.bound_interface);
}

// What has not been answered is no session yet, and nothing says that it was sent: with TCP_FASTOPEN_CONNECT the SYN
// leaves at the first write(2), perhaps hours after connect(2).
bool is_calling(const bh_walked_socket& socket)
{
    return socket.protocol == IPPROTO_TCP && socket.state == TCP_SYN_SENT;
}

// Many sockets share few cgroups, and the answer may cost a system call.
class Scope {
public:
    explicit Scope(Datapath& datapath) : datapath_(datapath) {}
    // `listener`: of an inbound session; may be nullptr.
    bool contains(const WalkedSocket& walked, const WalkedSocket* listener)
    {
        if (walked.socket.scope != BH_SCOPE_UNKNOWN)
            return walked.socket.scope == BH_SCOPE_INSIDE;
        const auto cgroup = cgroup_of(walked, listener);
        const auto [entry, fresh] = known_.try_emplace(cgroup, false);
        if (fresh)
            entry->second = datapath_.in_scope(cgroup);
        return entry->second;
    }

private:
    Datapath& datapath_;
    std::unordered_map<std::uint64_t, bool> known_;
};

} // namespace

SessionKeeper::SessionKeeper(Datapath& datapath, const Clock& clock, DirectionOf direction_of, OnCut on_cut)
    : datapath_(datapath), clock_(clock), direction_of_(std::move(direction_of)), on_cut_(std::move(on_cut))
{}

Result<std::vector<ForbiddenSession>> SessionKeeper::after_switch(const policy::Sessions& sessions)
{
    sessions_ = sessions;
    if (sessions_.kind == policy::Sessions::Kind::keep)
        deadlines_.clear();
    std::vector<ForbiddenSession> forbidden;
    BULKHEAD_CHECK(look(forbidden));
    if (sessions_.kind != policy::Sessions::Kind::keep)
        look_again_ = clock_.monotonic() + second_look;
    return forbidden;
}

Result<std::vector<ForbiddenSession>> SessionKeeper::tick()
{
    const auto now = clock_.monotonic();
    const bool again = look_again_ && *look_again_ <= now;
    const bool due =
        std::any_of(deadlines_.begin(), deadlines_.end(), [now](const auto& entry) { return entry.second <= now; });
    std::vector<ForbiddenSession> forbidden;
    if (again || due) {
        BULKHEAD_CHECK(look(forbidden));
        std::erase_if(forbidden, [](const auto& session) { return !session.destroyed; });
    }
    std::set<std::uint32_t> due_newcomers;
    for (const auto& [netns, look_again] : newcomers_)
        if (look_again <= now)
            due_newcomers.insert(netns);
    if (due_newcomers.empty())
        return forbidden;
    const auto unfinished = look_at_newcomers(due_newcomers, forbidden);
    if (!unfinished && forbidden.empty())
        return tl::unexpected(unfinished.error());
    if (!unfinished) // the caller must hear of what was destroyed
        log_warning("sessions of new network namespaces are not judged yet: {}", unfinished.error().message);
    else
        std::erase_if(newcomers_, [&](const auto& one) {
            return due_newcomers.contains(one.first) && !unfinished->contains(one.first);
        });
    return forbidden;
}

Result<std::vector<ForbiddenSession>> SessionKeeper::came(std::span<const std::uint32_t> namespaces)
{
    const std::set<std::uint32_t> came(namespaces.begin(), namespaces.end());
    std::vector<ForbiddenSession> forbidden;
    BULKHEAD_CHECK(look_at_newcomers(came, forbidden));
    return forbidden;
}

// Anybody can fill the kernel's table with ports. Sessions are judged by the walk, which needs no table. False: it
// failed in a way that is new, and may not the next time.
bool SessionKeeper::adopt(std::span<const WalkedSocket> sockets)
{
    const auto adopted = datapath_.adopt_listeners(sockets);
    const auto error = adopted ? std::string() : adopted.error().message;
    if (error == std::exchange(adoption_error_, error) || error.empty())
        return true;
    log_warning("sessions: not every listener is known to the kernel: {}", error);
    return false;
}

// Adds what it destroyed, and returns in which namespaces something could not be. They are all looked at again a second
// later, unless the caller knows better: a handshake that is under way now shows then. Outbound sessions have passed
// the doors of their cgroup.
Result<std::set<std::uint32_t>> SessionKeeper::look_at_newcomers(const std::set<std::uint32_t>& namespaces,
                                                                 std::vector<ForbiddenSession>& forbidden)
{
    const auto again = clock_.monotonic() + second_look;
    for (const auto netns : namespaces)
        newcomers_[netns] = again;
    BULKHEAD_TRY(const auto sockets, datapath_.walk_sockets_in(namespaces));
    if (!adopt(sockets))
        look_again_ = again;
    BULKHEAD_TRY(auto denied, judge_sockets(sockets));
    std::erase_if(denied, [](const auto& session) { return session.direction != policy::Direction::inbound; });
    std::vector<ForbiddenSession*> all(denied.size());
    std::transform(denied.begin(), denied.end(), all.begin(), [](auto& session) { return &session; });
    destroy(all);
    std::set<std::uint32_t> unfinished;
    for (auto& session : denied) {
        if (session.destroyed)
            forbidden.push_back(std::move(session));
        else
            unfinished.insert(session.socket.socket.netns);
    }
    std::set<std::uint32_t> finished;
    std::set_difference(namespaces.begin(), namespaces.end(), unfinished.begin(), unfinished.end(),
                        std::inserter(finished, finished.end()));
    datapath_.judged_newcomers(finished);
    return unfinished;
}

Status SessionKeeper::look(std::vector<ForbiddenSession>& forbidden)
{
    look_again_ = clock_.monotonic(); // if anything here fails, the next tick() makes it good
    BULKHEAD_TRY(const auto sockets, datapath_.walk_sockets());
    const bool adopted = adopt(sockets);
    still_denied_.clear();
    BULKHEAD_TRY(forbidden, judge_sockets(sockets));
    destroy_due(forbidden);
    if (sessions_.kind != policy::Sessions::Kind::keep) {
        // The caller must hear of the sessions that are destroyed by now, so a failure here is not its failure.
        if (const auto judged = judge_conversations(); !judged) {
            log_warning("sessions: UDP conversations are not judged yet: {}", judged.error().message);
            look_again_ = clock_.monotonic() + second_look;
        } else {
            look_again_.reset();
        }
    } else {
        look_again_.reset();
    }
    if (!adopted && !look_again_)
        look_again_ = clock_.monotonic() + second_look;
    deadlines_ = std::exchange(still_denied_, {});
    return {};
}

Result<std::vector<ForbiddenSession>> SessionKeeper::judge_sockets(std::span<const WalkedSocket> sockets)
{
    const ListenerIndex listeners(sockets);
    Scope scope(datapath_);
    std::vector<bh_judge_request> requests;
    std::vector<const WalkedSocket*> judged;
    std::vector<bool> doubtful;
    for (const auto& walked : sockets) {
        const auto& socket = walked.socket;
        if (!is_session(socket))
            continue;
        const auto* listener = listeners.find(socket.netns, socket.protocol, socket.local, socket.local_port);
        if (!scope.contains(walked, listener))
            continue;
        const auto opening = opening_of(socket, listener, direction_of_);
        // A UDP socket that answers was let connect by who it is itself, and may share its port with others.
        const bool by_listener =
            opening.direction == policy::Direction::inbound && listener != nullptr && socket.protocol != IPPROTO_UDP;
        doubtful.push_back(!opening.known);
        requests.push_back(request_for(socket.netns, socket.remote, socket.remote_port, socket.local_port,
                                       socket.protocol, opening.direction,
                                       subject_of(by_listener ? *listener : walked)));
        judged.push_back(&walked);
    }
    BULKHEAD_CHECK(datapath_.judge(requests));
    BULKHEAD_CHECK(judge_other_ways(requests, judged, listeners, doubtful));
    std::vector<ForbiddenSession> forbidden;
    for (std::size_t i = 0; i < requests.size(); ++i)
        if (requests[i].verdict == BH_DENIED)
            forbidden.push_back({*judged[i], static_cast<policy::Direction>(requests[i].direction), requests[i]});
    return forbidden;
}

// What is denied lives if it may have come another way, which is allowed: as an inbound session where it is not known
// who began (unless it stays on the host and goes to where somebody listens), or by a transparent proxy's own port, for
// what such a proxy accepted has the address and port that were called.
Status SessionKeeper::judge_other_ways(std::vector<bh_judge_request>& requests,
                                       const std::vector<const WalkedSocket*>& sockets, const ListenerIndex& listeners,
                                       const std::vector<bool>& doubtful)
{
    std::vector<std::size_t> of;
    std::vector<bh_judge_request> others;
    const auto add = [&](std::size_t i, std::uint16_t port, const bh_subject& subject) {
        of.push_back(i);
        auto& other = others.emplace_back(requests[i]);
        other.direction = BH_INBOUND;
        other.port = port;
        other.subject = subject;
    };
    const auto judge = [&]() -> Status {
        if (others.empty())
            return {};
        BULKHEAD_CHECK(datapath_.judge(others));
        for (std::size_t i = 0; i < others.size(); ++i)
            if (others[i].verdict == BH_ALLOWED)
                requests[of[i]] = others[i];
        of.clear();
        others.clear();
        return {};
    };
    for (std::size_t i = 0; i < requests.size(); ++i) {
        const auto& socket = sockets[i]->socket;
        if (requests[i].verdict != BH_DENIED)
            continue;
        if (doubtful[i] &&
            (requests[i].loopback == BH_LOOPBACK_NONE ||
             listeners.find(socket.netns, socket.protocol, socket.remote, socket.remote_port) == nullptr))
            add(i, socket.local_port, requests[i].subject);
        if (socket.transparent == 0 || (requests[i].direction == BH_OUTBOUND && !doubtful[i]))
            continue;
        for (const auto* proxy : listeners.proxies(socket.netns, socket.cgroup_id))
            add(i, proxy->socket.local_port, subject_of(*proxy));
        if (others.size() >= judged_at_once)
            BULKHEAD_CHECK(judge());
    }
    return judge();
}

// Whether the time of something that is denied is over; begins its time when it is new.
bool SessionKeeper::is_due(std::string key)
{
    const auto now = clock_.monotonic();
    auto deadline = sessions_.kind == policy::Sessions::Kind::cut ? now : now + sessions_.drain;
    if (const auto known = deadlines_.find(key); known != deadlines_.end())
        deadline = std::min(deadline, known->second);
    if (deadline <= now)
        return true;
    still_denied_.emplace(std::move(key), deadline);
    return false;
}

void SessionKeeper::tell_of(ForbiddenSession& session)
{
    if (on_cut_ && !std::exchange(session.tried, true))
        on_cut_(session);
}

void SessionKeeper::destroy(ForbiddenSession& session)
{
    tell_of(session);
    session.destroyed = datapath_.destroy_socket(session.socket.socket).value_or(false);
}

// Of sockets with the same ends (SO_REUSEADDR, SO_REUSEPORT) the kernel finds one, and the next one when that is gone.
// Which one only the kernel knows, and there may be thousands. False: it finds none of those that are left.
bool SessionKeeper::destroy_in_turn(std::unordered_map<std::uint64_t, ForbiddenSession*>& sharing, MonotonicTime enough)
{
    int misses = 0;
    while (!sharing.empty() && clock_.monotonic() < enough) {
        const auto found = datapath_.find_socket(sharing.begin()->second->socket.socket);
        const auto session = found ? sharing.find(*found) : sharing.end();
        if (session == sharing.end())
            return false; // they are gone, hidden by one that is allowed, or cannot be destroyed
        destroy(*session->second);
        if (session->second->destroyed) {
            sharing.erase(session);
            misses = 0;
        } else if (++misses == most_misses) // the kernel prefers one of the CPU that asks (SO_INCOMING_CPU)
            return false;
    }
    return true;
}

void SessionKeeper::destroy(std::span<ForbiddenSession* const> sessions)
{
    struct Group {
        std::unordered_map<std::uint64_t, ForbiddenSession*> sharing; // by cookie
        bool hidden = false;
        std::size_t neighbours = 0;
    };
    std::map<std::string, Group> groups; // by ends
    std::map<std::string, std::size_t> at_local_end;
    for (auto* session : sessions) {
        const auto& socket = session->socket.socket;
        if (socket.protocol == IPPROTO_TCP) // which shares its ends with no other, but on another interface
            destroy(*session);
        if (session->destroyed)
            continue;
        groups[ends_of(socket)].sharing.emplace(socket.cookie, session);
        ++at_local_end[local_end_of(socket)];
    }
    // The more sockets are at one port, the longer the kernel looks for each. Whoever made thousands of them, or hid
    // them, is to keep those of others no longer than he must.
    std::vector<std::pair<const std::string, Group>*> order;
    for (auto& group : groups) {
        group.second.hidden = hidden_.contains(group.first);
        group.second.neighbours = at_local_end[local_end_of(group.second.sharing.begin()->second->socket.socket)];
        order.push_back(&group);
    }
    std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
        return std::tie(a->second.hidden, a->second.neighbours) < std::tie(b->second.hidden, b->second.neighbours);
    });
    const auto slow = std::partition_point(order.begin(), order.end(), [](const auto* group) {
        return !group->second.hidden && group->second.neighbours <= few_neighbours;
    });
    hidden_.clear();
    const auto enough = clock_.monotonic() + search_at_most;
    const auto search = [this](auto* group, MonotonicTime until) {
        if (!destroy_in_turn(group->second.sharing, until))
            hidden_.insert(group->first);
    };
    std::for_each(order.begin(), slow, [&](auto* group) { search(group, MonotonicTime::max()); });
    std::vector<ForbiddenSession*> left;
    std::copy_if(sessions.begin(), sessions.end(), std::back_inserter(left), [](const auto* session) {
        return session->socket.socket.protocol == IPPROTO_UDP && !session->destroyed;
    });
    if (!left.empty() && datapath_.destroys_in_walk()) {
        destroy_in_walk(left);
        for (const auto* session : left)
            groups[ends_of(session->socket.socket)].sharing.clear();
    }
    std::for_each(slow, order.end(), [&](auto* group) { search(group, enough); });
}

// Those that share a port with very many, or their ends with one that is allowed.
void SessionKeeper::destroy_in_walk(std::span<ForbiddenSession* const> sessions)
{
    std::vector<const bh_walked_socket*> sockets;
    for (auto* session : sessions) {
        tell_of(*session);
        sockets.push_back(&session->socket.socket);
    }
    const auto destroyed = datapath_.destroy_in_walk(sockets);
    for (auto* session : sessions)
        session->destroyed = destroyed.contains(session->socket.socket.cookie);
}

void SessionKeeper::destroy_due(std::vector<ForbiddenSession>& forbidden)
{
    std::vector<ForbiddenSession*> due;
    for (auto& session : forbidden) {
        const auto& socket = session.socket.socket;
        if (sessions_.kind == policy::Sessions::Kind::keep ? is_calling(socket) : is_due(bytes_of(socket.cookie)))
            due.push_back(&session);
    }
    destroy(due);
    for (const auto* session : due)
        if (!session->destroyed)
            still_denied_.emplace(bytes_of(session->socket.socket.cookie), clock_.monotonic() + second_look);
}

Status SessionKeeper::judge_conversations()
{
    BULKHEAD_TRY(const auto flows, datapath_.udp_flows());
    std::vector<bh_judge_request> requests;
    requests.reserve(flows.size());
    for (const auto& [key, flow] : flows)
        requests.push_back(request_for(key.netns, key.remote, key.remote_port, key.local_port, IPPROTO_UDP,
                                       static_cast<policy::Direction>(flow.direction), flow.subject));
    BULKHEAD_CHECK(datapath_.judge(requests));
    for (std::size_t i = 0; i < requests.size(); ++i)
        if (requests[i].verdict == BH_DENIED && is_due(bytes_of(flows[i].first)))
            BULKHEAD_CHECK(datapath_.forget_udp_flow(flows[i].first));
    return {};
}

} // namespace bulkhead::agent
