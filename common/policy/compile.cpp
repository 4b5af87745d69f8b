// SPDX-License-Identifier: Apache-2.0
#include "common/policy/compile.h"

#include "common/abi/bulkhead.h"
#include "common/policy/label_index.h"

#include <algorithm>

namespace bulkhead::policy {
namespace {

std::uint8_t strict_planes(Mode mode)
{
    switch (mode) {
    case Mode::enforce: return both_planes;
    case Mode::test: return plane_bit(Plane::shadow);
    case Mode::observe: return 0;
    }
    return 0;
}

std::string place_of(const SourceRef& where)
{
    return where.file ? fmt::format("{}:{}", *where.file, where.line) : std::string();
}

template <typename T>
void sort_unique(std::vector<T>& values)
{
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
}

void add_default(HostDefault& decided, Action action, const std::string& segment)
{
    // Segments come in name order, so the first that decides is the first by name.
    const bool stricter = decided.action == Action::allow && action == Action::deny;
    if (!decided.action || stricter)
        decided = {action, segment};
}

Sessions stricter(const Sessions& a, const Sessions& b)
{
    if (a.kind != b.kind)
        return static_cast<int>(a.kind) > static_cast<int>(b.kind) ? a : b; // keep < drain < cut
    return a.drain <= b.drain ? a : b;
}

} // namespace

struct HostCompiler::Parts {
    Parts(const PolicySet& p, const std::vector<Identity>& i) : policy(p), identities(i), segments(p.segments) {}

    const PolicySet& policy;
    IdentityIndex identities;
    SegmentIndex segments;
    std::map<std::string, std::vector<IdentityId>, std::less<>> members;
    std::map<std::map<std::string, std::vector<std::string>>, std::vector<IdentityId>> labelled;

    const std::vector<IdentityId>& members_of(const std::string& name)
    {
        const auto [found, is_new] = members.try_emplace(name);
        if (is_new)
            if (const auto* segment = policy.find_segment(name); segment != nullptr)
                found->second = identities.matching(segment->selector);
        return found->second;
    }

    const std::vector<IdentityId>& labelled_by(const LabelSelector& selector)
    {
        const auto [found, is_new] = labelled.try_emplace(selector.terms);
        if (is_new)
            found->second = identities.matching(selector);
        return found->second;
    }

    PeerSet peers_of(const PeerRef& peer)
    {
        PeerSet set;
        set.any = peer.any;
        set.cidrs = peer.cidrs;
        if (peer.addresses)
            if (const auto group = policy.address_groups.find(*peer.addresses); group != policy.address_groups.end())
                set.cidrs = group->second;
        sort_unique(set.cidrs);
        if (peer.segment)
            set.identities = members_of(*peer.segment);
        else if (peer.labels)
            set.identities = labelled_by(*peer.labels);
        else if (peer.workload)
            set.identities = identities.named(*peer.workload);
        return set;
    }
};

namespace {

// One host's rules on their way; process conditions are numbered at the end, when all are known.
struct Draft {
    HostRule rule;
    std::optional<ProcessCondition> process;
};

HostRule draft_rule(const Segment& segment, const Rule& rule, Direction direction, std::uint8_t planes, PeerSet peers)
{
    HostRule result;
    result.id = segment.name + "/" + rule.id;
    result.direction = direction;
    result.action = rule.action == Action::deny ? HostAction::deny : HostAction::allow;
    result.planes = planes;
    result.peers = std::move(peers);
    result.services = rule.services;
    result.where = place_of(rule.where);
    result.expires = rule.expires;
    result.reason = rule.reason;
    return result;
}

bool names_host(const PeerRef& peer, const std::vector<std::string>& own_segments, const Labels& own_labels,
                const std::string& own_name)
{
    if (peer.segment)
        return std::binary_search(own_segments.begin(), own_segments.end(), *peer.segment);
    if (peer.labels)
        return peer.labels->matches(own_labels);
    return peer.workload && *peer.workload == own_name;
}

Status number_processes(HostPolicy& host, std::vector<Draft>& drafts)
{
    for (const auto& draft : drafts)
        if (draft.process)
            host.processes.push_back(*draft.process);
    sort_unique(host.processes);
    if (host.processes.size() > BH_CLASSES - 1) {
        auto error = fail(ErrorKind::invalid, "{} different process conditions apply to one host; it can tell {} apart",
                          host.processes.size(), BH_CLASSES - 1);
        error.value().mend = "let rules share conditions, or split the segments so that fewer apply to one host";
        return error;
    }
    for (auto& draft : drafts) {
        if (draft.process) {
            const auto at = std::lower_bound(host.processes.begin(), host.processes.end(), *draft.process);
            draft.rule.process_class = static_cast<std::uint16_t>(1 + (at - host.processes.begin()));
        }
        host.rules.push_back(std::move(draft.rule));
    }
    return {};
}

void add_defaults(HostPolicy& host, const std::vector<const Segment*>& own)
{
    for (const auto* segment : own) {
        for (const auto plane : {Plane::active, Plane::shadow}) {
            if ((strict_planes(segment->mode) & plane_bit(plane)) == 0)
                continue;
            auto& defaults = host.defaults[static_cast<std::size_t>(plane)];
            add_default(defaults[static_cast<std::size_t>(Direction::outbound)], segment->outbound, segment->name);
            add_default(defaults[static_cast<std::size_t>(Direction::inbound)], segment->inbound, segment->name);
            if (segment->loopback == Action::deny)
                add_default(host.loopback[static_cast<std::size_t>(plane)], Action::deny, segment->name);
        }
        if (segment->mode == Mode::enforce)
            host.sessions = stricter(host.sessions, segment->sessions);
    }
}

} // namespace

HostCompiler::HostCompiler(const PolicySet& policy, const std::vector<Identity>& identities)
    : parts_(std::make_unique<Parts>(policy, identities))
{}

HostCompiler::~HostCompiler() = default;

Result<HostPolicy> HostCompiler::compile(const Labels& own_labels, const std::string& own_name)
{
    HostPolicy host;
    const auto own = parts_->segments.containing(own_labels);
    for (const auto* segment : own)
        host.segments.push_back(segment->name);
    add_defaults(host, own);

    std::vector<Draft> drafts;
    for (const auto& segment : parts_->policy.segments) {
        const bool at_home = std::binary_search(host.segments.begin(), host.segments.end(), segment.name);
        for (const auto& rule : segment.rules) {
            const auto planes = rule.action == Action::allow ? both_planes : strict_planes(segment.mode);
            if (planes == 0)
                continue;
            const bool from_peer = rule.from.has_value();
            const auto& peer = from_peer ? *rule.from : *rule.to;
            const auto home = from_peer ? Direction::inbound : Direction::outbound;
            const auto away = from_peer ? Direction::outbound : Direction::inbound;
            if (at_home)
                drafts.push_back({draft_rule(segment, rule, home, planes, parts_->peers_of(peer)), rule.process});
            const bool far_end_judges = rule.action == Action::allow || !rule.process;
            if (far_end_judges && names_host(peer, host.segments, own_labels, own_name))
                drafts.push_back(
                    {draft_rule(segment, rule, away, planes, PeerSet{false, {}, parts_->members_of(segment.name)}),
                     std::nullopt});
        }
    }
    std::sort(drafts.begin(), drafts.end(), [](const Draft& a, const Draft& b) {
        return std::tie(a.rule.id, a.rule.direction) < std::tie(b.rule.id, b.rule.direction);
    });
    host.rules.reserve(drafts.size());
    BULKHEAD_CHECK(number_processes(host, drafts));
    return host;
}

Result<HostPolicy> compile_host(const PolicySet& policy, const std::vector<Identity>& identities,
                                const Labels& own_labels, const std::string& own_name)
{
    return HostCompiler(policy, identities).compile(own_labels, own_name);
}

} // namespace bulkhead::policy
