// SPDX-License-Identifier: Apache-2.0
#include "common/policy/resolve.h"

#include "common/policy/service_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

namespace bulkhead::policy {
namespace {

template <typename T>
void sort_unique(std::vector<T>& values)
{
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
}

// Remembers where names were given first; a second time is a finding that names both places.
class UniqueNames {
public:
    UniqueNames(std::string_view what, Findings& findings) : what_(what), findings_(findings) {}

    bool take(const std::string& name, const SourceRef& where)
    {
        if (name.empty()) // was no name; that is said already
            return false;
        const auto [first, is_new] = places_.try_emplace(name, where);
        if (!is_new)
            findings_.add(where,
                          fmt::format("{} '{}' is given twice; first at {}", what_, name, first->second.to_string()),
                          "rename or remove one of them");
        return is_new;
    }
    [[nodiscard]] bool has(const std::string& name) const { return places_.contains(name); }
    [[nodiscard]] std::string guess(const std::string& name) const
    {
        std::vector<std::string_view> names;
        names.reserve(places_.size());
        for (const auto& [known, where] : places_)
            names.push_back(known);
        std::sort(names.begin(), names.end());
        return suggest(name, names);
    }

private:
    std::string_view what_;
    Findings& findings_;
    std::unordered_map<std::string, SourceRef> places_;
};

class Resolver {
public:
    explicit Resolver(Findings& findings) : findings_(findings) {}

    PolicySet run(Declared declared)
    {
        for (const auto& segment : declared.segments)
            segments_.take(segment.segment.name, segment.segment.where);
        define_services(declared.services);
        define_groups(declared.groups);
        define_workloads(declared.workloads);
        for (auto& segment : declared.segments)
            policy_.segments.push_back(resolve_segment(std::move(segment)));
        std::stable_sort(policy_.segments.begin(), policy_.segments.end(),
                         [](const Segment& a, const Segment& b) { return a.name < b.name; });
        return std::move(policy_);
    }

private:
    std::vector<ServiceAtom> expand(const std::vector<ServiceWord>& words, const ServiceNames* defined)
    {
        std::vector<ServiceAtom> atoms;
        for (const auto& word : words) {
            const auto meant = resolve_service(word, defined, findings_);
            atoms.insert(atoms.end(), meant.begin(), meant.end());
        }
        sort_unique(atoms);
        return atoms;
    }

    void define_services(const std::vector<DeclaredService>& declared)
    {
        for (const auto& service : declared) // a definition may use known services, not other definitions
            if (auto atoms = expand(service.members, nullptr); services_.take(service.name, service.where))
                policy_.services.emplace(service.name, std::move(atoms));
    }

    void define_groups(std::vector<DeclaredGroup>& declared)
    {
        for (auto& group : declared) {
            if (!groups_.take(group.name, group.where))
                continue;
            sort_unique(group.cidrs);
            policy_.address_groups.emplace(group.name, std::move(group.cidrs));
        }
    }

    void define_workloads(std::vector<WorkloadDeclaration>& declared)
    {
        std::unordered_map<IpAddress, const WorkloadDeclaration*> owners;
        for (const auto& workload : declared) {
            workloads_.take(workload.name, workload.where);
            for (const auto& address : workload.addresses) {
                const auto [owner, is_new] = owners.try_emplace(address, &workload);
                if (!is_new)
                    findings_.add(workload.where,
                                  fmt::format("address {} is given twice; first to '{}' at {}", address.to_string(),
                                              owner->second->name, owner->second->where.to_string()),
                                  "an address belongs to one workload: keep one of them");
            }
        }
        policy_.workloads = std::move(declared);
    }

    void check_known(const std::optional<std::string>& name, const UniqueNames& names, std::string_view what,
                     std::string_view otherwise, const SourceRef& where)
    {
        if (!name || names.has(*name))
            return;
        auto mend = findings_.listens(where) ? names.guess(*name) : std::string();
        findings_.add(where, fmt::format("{} '{}' is not known", what, *name),
                      mend.empty() ? std::string(otherwise) : std::move(mend));
    }

    void check_peer(const std::optional<PeerRef>& peer)
    {
        if (!peer)
            return;
        check_known(peer->segment, segments_, "segment", "declare it in a document of its own: segment: NAME",
                    peer->where);
        check_known(peer->addresses, groups_, "address group", "define it: addresses: {NAME: [192.0.2.0/24]}",
                    peer->where);
        check_known(peer->workload, workloads_, "workload",
                    "declare it: workloads: [{name: NAME}]; the name alone will do for a host with an agent",
                    peer->where);
    }

    Segment resolve_segment(DeclaredSegment declared)
    {
        auto segment = std::move(declared.segment);
        UniqueNames ids("id", findings_);
        std::unordered_map<std::string, const DeclaredRule*> allowed;
        for (auto& rule : declared.rules) {
            ids.take(rule.rule.id, rule.rule.where);
            check_peer(rule.rule.from);
            check_peer(rule.rule.to);
            rule.rule.services = expand(rule.services, &policy_.services);
            if (rule.complete && !rule.rule.services.empty())
                check_contradiction(rule, allowed);
        }
        for (auto& rule : declared.rules)
            segment.rules.push_back(std::move(rule.rule));
        return segment;
    }

    // Allow rules come first, so a deny rule meets the allow rule that says the opposite of the very same thing.
    void check_contradiction(const DeclaredRule& rule, std::unordered_map<std::string, const DeclaredRule*>& allowed)
    {
        auto subject = subject_of(rule.rule);
        if (rule.rule.action == Action::allow) {
            allowed.try_emplace(std::move(subject), &rule);
            return;
        }
        if (const auto opposite = allowed.find(subject); opposite != allowed.end())
            findings_.add(rule.rule.where,
                          fmt::format("'{}' denies exactly what '{}' at {} allows", rule.rule.id,
                                      opposite->second->rule.id, opposite->second->rule.where.to_string()),
                          "deny always wins: remove one of the two rules");
    }

    // Two rules with the same text here are about the same peers, services and processes.
    [[nodiscard]] std::string subject_of(const Rule& rule) const
    {
        const auto& peer = rule.from ? *rule.from : *rule.to;
        std::string text = rule.from ? "from" : "to";
        const auto add = [&text](char kind, std::string_view value) { text += fmt::format("\x1f{}{}", kind, value); };
        auto cidrs = peer.cidrs;
        if (peer.addresses)
            if (const auto group = policy_.address_groups.find(*peer.addresses); group != policy_.address_groups.end())
                cidrs = group->second;
        sort_unique(cidrs);
        if (peer.any)
            add('*', {});
        if (peer.segment)
            add('s', *peer.segment);
        if (peer.workload)
            add('w', *peer.workload);
        for (const auto& cidr : cidrs)
            add('c', cidr.to_string());
        if (peer.labels)
            for (const auto& [key, values] : peer.labels->terms) {
                auto sorted = values;
                sort_unique(sorted);
                add('l', key);
                for (const auto& value : sorted)
                    add('=', value);
            }
        for (const auto& atom : rule.services)
            add('p', fmt::format("{}/{}-{}", static_cast<unsigned>(atom.protocol), atom.ports.first, atom.ports.last));
        if (rule.expires)
            add('e', format_rfc3339(*rule.expires));
        if (rule.process)
            for (const auto* value : {&rule.process->unit, &rule.process->exe, &rule.process->sha256,
                                      &rule.process->user, &rule.process->container})
                add(*value ? 'v' : '-', value->value_or(""));
        return text;
    }

    Findings& findings_;
    PolicySet policy_;
    UniqueNames segments_{"segment", findings_};
    UniqueNames services_{"service", findings_};
    UniqueNames groups_{"address group", findings_};
    UniqueNames workloads_{"workload", findings_};
};

} // namespace

PolicySet resolve(Declared declared, Findings& findings)
{
    return Resolver(findings).run(std::move(declared));
}

} // namespace bulkhead::policy
