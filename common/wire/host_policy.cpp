// SPDX-License-Identifier: Apache-2.0
#include "common/abi/bulkhead.h"
#include "common/wire/wire.h"

#include <algorithm>
#include <charconv>

namespace bulkhead::wire {
namespace {

using policy::Action;
using policy::HostAction;
using policy::HostRule;

// A year; what common/policy accepts is shorter.
constexpr std::uint64_t max_drain_seconds = 366ULL * 24 * 3600;

v1::HostRule::Action action_to_wire(HostAction action, bool expires)
{
    switch (action) {
    case HostAction::allow: return expires ? v1::HostRule::ALLOW_UNTIL : v1::HostRule::ALLOW;
    case HostAction::deny: return expires ? v1::HostRule::DENY_UNTIL : v1::HostRule::DENY;
    case HostAction::failsafe: return v1::HostRule::FAILSAFE;
    }
    return v1::HostRule::ACTION_UNSET;
}

Result<HostAction> action_from_wire(v1::HostRule::Action action)
{
    switch (action) {
    case v1::HostRule::ALLOW:
    case v1::HostRule::ALLOW_UNTIL: return HostAction::allow;
    case v1::HostRule::DENY:
    case v1::HostRule::DENY_UNTIL: return HostAction::deny;
    case v1::HostRule::FAILSAFE: return HostAction::failsafe;
    default: return fail(ErrorKind::invalid, "unknown action {}", static_cast<int>(action));
    }
}

std::string sessions_to_wire(const policy::Sessions& sessions)
{
    switch (sessions.kind) {
    case policy::Sessions::Kind::keep: return "keep";
    case policy::Sessions::Kind::cut: return "cut";
    case policy::Sessions::Kind::drain: return fmt::format("drain {}s", sessions.drain.count());
    }
    return "keep";
}

Result<policy::Sessions> sessions_from_wire(const std::string& text)
{
    using Kind = policy::Sessions::Kind;
    if (text == "keep")
        return policy::Sessions{Kind::keep, {}};
    if (text == "cut")
        return policy::Sessions{Kind::cut, {}};
    constexpr std::string_view prefix = "drain ";
    if (text.starts_with(prefix) && text.ends_with('s')) {
        const auto digits = std::string_view(text).substr(prefix.size(), text.size() - prefix.size() - 1);
        std::uint64_t seconds = 0;
        const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), seconds);
        if (!digits.empty() && code == std::errc{} && end == digits.data() + digits.size() &&
            seconds <= max_drain_seconds)
            return policy::Sessions{Kind::drain, std::chrono::seconds(seconds)};
    }
    return fail(ErrorKind::invalid, "sessions \"{}\" is none of keep, cut, drain SECONDSs", text);
}

void condition_to_wire(const policy::ProcessCondition& condition, v1::ProcessCondition& message)
{
    if (condition.unit)
        message.set_unit(*condition.unit);
    if (condition.exe)
        message.set_exe(*condition.exe);
    if (condition.sha256)
        message.set_sha256(*condition.sha256);
    if (condition.user)
        message.set_user(*condition.user);
    if (condition.container)
        message.set_container(*condition.container);
}

Result<policy::ProcessCondition> condition_from_wire(const v1::ProcessCondition& message)
{
    policy::ProcessCondition condition;
    if (message.has_unit())
        condition.unit = message.unit();
    if (message.has_exe())
        condition.exe = message.exe();
    if (message.has_sha256())
        condition.sha256 = message.sha256();
    if (message.has_user())
        condition.user = message.user();
    if (message.has_container())
        condition.container = message.container();
    // Without a key it would match every process: a rule for one program would become a rule for all.
    if (condition == policy::ProcessCondition{})
        return fail(ErrorKind::invalid, "a process condition has no key");
    return condition;
}

Result<policy::ServiceAtom> service_from_wire(const v1::PortSpan& span)
{
    const auto is_named = [&span](policy::Protocol protocol) {
        return span.protocol() == static_cast<unsigned>(protocol);
    };
    if (std::none_of(std::begin(policy::all_protocols), std::end(policy::all_protocols), is_named))
        return fail(ErrorKind::invalid, "protocol {} is not known", span.protocol());
    const auto whole = policy::whole_range(static_cast<policy::Protocol>(span.protocol()));
    if (span.first() > span.last() || span.last() > whole.last)
        return fail(ErrorKind::invalid, "{}-{} is no range of protocol {}", span.first(), span.last(), span.protocol());
    return policy::ServiceAtom{
        static_cast<policy::Protocol>(span.protocol()),
        PortRange{static_cast<std::uint16_t>(span.first()), static_cast<std::uint16_t>(span.last())}};
}

void rule_to_wire(const HostRule& rule, v1::HostRule& message)
{
    message.set_id(rule.id);
    message.set_direction(static_cast<std::uint32_t>(rule.direction));
    message.set_action(action_to_wire(rule.action, rule.expires.has_value()));
    if (rule.expires)
        message.set_expires_ns(rule.expires->time_since_epoch().count());
    message.set_planes(rule.planes);
    message.set_any_peer(rule.peers.any);
    for (const auto& cidr : rule.peers.cidrs)
        message.add_cidrs(cidr.to_string());
    for (const auto id : rule.peers.identities)
        message.add_identities(id);
    for (const auto& atom : rule.services) {
        auto& span = *message.add_services();
        span.set_protocol(static_cast<std::uint32_t>(atom.protocol));
        span.set_first(atom.ports.first);
        span.set_last(atom.ports.last);
    }
    message.set_process_class(rule.process_class);
    message.set_where(rule.where);
    message.set_reason(rule.reason);
}

Result<policy::PeerSet> peers_from_wire(const v1::HostRule& message)
{
    policy::PeerSet peers;
    peers.any = message.any_peer();
    for (const auto& text : message.cidrs()) {
        const auto cidr = Cidr::parse(text);
        if (!cidr)
            return fail(ErrorKind::invalid, "\"{}\" is no address prefix", text);
        peers.cidrs.push_back(*cidr);
    }
    for (const auto id : message.identities()) {
        if (id == 0)
            return fail(ErrorKind::invalid, "identity 0 names nobody");
        peers.identities.push_back(id);
    }
    std::sort(peers.cidrs.begin(), peers.cidrs.end());
    std::sort(peers.identities.begin(), peers.identities.end());
    return peers;
}

Result<std::optional<WallTime>> expiry_from_wire(const v1::HostRule& message)
{
    const bool expires =
        message.action() == v1::HostRule::ALLOW_UNTIL || message.action() == v1::HostRule::DENY_UNTIL;
    if (expires != (message.expires_ns() != 0) || message.expires_ns() < 0)
        return fail(ErrorKind::invalid, "expiry {} with action {}", message.expires_ns(),
                    static_cast<int>(message.action()));
    return expires ? std::optional(WallTime(std::chrono::nanoseconds(message.expires_ns()))) : std::nullopt;
}

Result<HostRule> rule_from_wire(const v1::HostRule& message, int processes)
{
    HostRule rule;
    if (message.id().empty())
        return fail(ErrorKind::invalid, "a rule has no id");
    rule.id = message.id();
    if (message.direction() > 1)
        return fail(ErrorKind::invalid, "unknown direction {}", message.direction());
    rule.direction = static_cast<policy::Direction>(message.direction());
    BULKHEAD_TRY(rule.action, action_from_wire(message.action()));
    BULKHEAD_TRY(rule.expires, expiry_from_wire(message));
    if (message.planes() == 0 || message.planes() > policy::both_planes)
        return fail(ErrorKind::invalid, "unknown planes {:#x}", message.planes());
    rule.planes = static_cast<std::uint8_t>(message.planes());
    BULKHEAD_TRY(rule.peers, peers_from_wire(message));
    if (message.services().empty())
        return fail(ErrorKind::invalid, "no services");
    for (const auto& span : message.services()) {
        BULKHEAD_TRY(auto atom, service_from_wire(span));
        rule.services.push_back(atom);
    }
    if (message.process_class() > static_cast<unsigned>(processes))
        return fail(ErrorKind::invalid, "process class {} of {}", message.process_class(), processes);
    rule.process_class = static_cast<std::uint16_t>(message.process_class());
    rule.where = message.where();
    rule.reason = message.reason();
    return rule;
}

Result<policy::HostDefault> default_from_wire(const v1::HostDefault& message)
{
    policy::HostDefault result;
    switch (message.action()) {
    case v1::HostDefault::ACTION_UNSET: break;
    case v1::HostDefault::ALLOW: result.action = Action::allow; break;
    case v1::HostDefault::DENY: result.action = Action::deny; break;
    default: return fail(ErrorKind::invalid, "unknown default action {}", static_cast<int>(message.action()));
    }
    result.segment = message.segment();
    return result;
}

Status rules_from_wire(const v1::HostPolicy& message, policy::HostPolicy& policy)
{
    for (const auto& rule_message : message.rules()) {
        auto rule = rule_from_wire(rule_message, message.processes_size());
        if (!rule)
            return tl::unexpected(std::move(rule).error().within(fmt::format("rule \"{}\"", rule_message.id())));
        policy.rules.push_back(*std::move(rule));
    }
    return {};
}

} // namespace

namespace {

constexpr int directions = 4; // of two planes
constexpr int with_loopback = directions + 2;

bool speaks_of_loopback(const policy::HostPolicy& policy)
{
    return std::any_of(std::begin(policy.loopback), std::end(policy.loopback),
                       [](const auto& plane) { return plane.action.has_value(); });
}

void default_to_wire(const policy::HostDefault& from, v1::HostDefault& message)
{
    if (from.action)
        message.set_action(*from.action == Action::allow ? v1::HostDefault::ALLOW : v1::HostDefault::DENY);
    message.set_segment(from.segment);
}

} // namespace

v1::HostPolicy to_wire(const policy::HostPolicy& policy)
{
    v1::HostPolicy message;
    for (const auto& segment : policy.segments)
        message.add_segments(segment);
    for (const auto& rule : policy.rules)
        rule_to_wire(rule, *message.add_rules());
    for (const auto& condition : policy.processes)
        condition_to_wire(condition, *message.add_processes());
    for (const auto& plane : policy.defaults)
        for (const auto& one : plane)
            default_to_wire(one, *message.add_defaults());
    if (speaks_of_loopback(policy))
        for (const auto& plane : policy.loopback)
            default_to_wire(plane, *message.add_defaults());
    message.set_sessions(sessions_to_wire(policy.sessions));
    return message;
}

Result<policy::HostPolicy> from_wire(const v1::HostPolicy& message)
{
    policy::HostPolicy policy;
    if (message.processes_size() > BH_CLASSES - 1)
        return fail(ErrorKind::invalid, "host policy: {} process conditions; at most {} fit", message.processes_size(),
                    BH_CLASSES - 1);
    if (message.defaults_size() != directions && message.defaults_size() != with_loopback)
        return fail(ErrorKind::invalid, "host policy: {} defaults instead of {} or {}", message.defaults_size(),
                    directions, with_loopback);
    policy.segments.assign(message.segments().begin(), message.segments().end());
    std::sort(policy.segments.begin(), policy.segments.end());
    BULKHEAD_CHECK(rules_from_wire(message, policy));
    for (const auto& one : message.processes()) {
        BULKHEAD_TRY(auto condition, condition_from_wire(one));
        policy.processes.push_back(std::move(condition));
    }
    for (int i = 0; i < message.defaults_size(); ++i) {
        auto& into = i < directions ? policy.defaults[i / 2][i % 2] : policy.loopback[i - directions];
        BULKHEAD_TRY(into, default_from_wire(message.defaults(i)));
    }
    BULKHEAD_TRY(policy.sessions, sessions_from_wire(message.sessions()));
    return policy;
}

v1::Identity to_wire(const policy::Identity& identity)
{
    v1::Identity message;
    message.set_id(identity.id);
    for (const auto& [key, value] : identity.labels)
        (*message.mutable_labels())[key] = value;
    message.set_named_workload(identity.named_workload);
    for (const auto& segment : identity.segments)
        message.add_segments(segment);
    return message;
}

Result<policy::Identity> from_wire(const v1::Identity& message)
{
    policy::Identity identity;
    if (message.id() == 0)
        return fail(ErrorKind::invalid, "identity without a number");
    identity.id = message.id();
    for (const auto& [key, value] : message.labels()) {
        if (key.empty())
            return fail(ErrorKind::invalid, "identity {}: a label without a key", message.id());
        identity.labels.emplace(key, value);
    }
    identity.named_workload = message.named_workload();
    identity.segments.assign(message.segments().begin(), message.segments().end());
    std::sort(identity.segments.begin(), identity.segments.end());
    return identity;
}

std::string to_wire(const IpAddress& address)
{
    const auto* first = address.bytes.begin() + (address.is_v4() ? 12 : 0);
    return {first, address.bytes.end()};
}

Result<IpAddress> address_from_wire(const std::string& bytes)
{
    IpAddress address;
    if (bytes.size() == 4)
        address = IpAddress::from_v4(0); // the ::ffff: prefix
    else if (bytes.size() != 16)
        return fail(ErrorKind::invalid, "an address of {} bytes is neither IPv4 nor IPv6", bytes.size());
    std::transform(bytes.begin(), bytes.end(), address.bytes.end() - static_cast<std::ptrdiff_t>(bytes.size()),
                   [](char c) { return static_cast<std::uint8_t>(c); });
    return address;
}

} // namespace bulkhead::wire
