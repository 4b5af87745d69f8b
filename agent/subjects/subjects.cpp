// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/subjects.h"

#include "agent/enrich/cgroup_tree.h"
#include "agent/enrich/enrich.h"
#include "agent/enrich/user_names.h"
#include "agent/subjects/file_digests.h"
#include "agent/subjects/program_finder.h"
#include "agent/subjects/running_programs.h"
#include "common/policy/evaluate.h"
#include "common/policy/glob.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <tuple>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_cgroups = 65536;
constexpr std::size_t max_cgroups_of_others = 4096; // in what somebody else is in charge of, who can make any number

using Conditions = std::vector<policy::ProcessCondition>;
using policy::ClassVector;

bh_class_vector to_kernel(const ClassVector& classes)
{
    bh_class_vector vector{};
    for (std::size_t i = 0; i < classes.size(); ++i)
        if (classes[i])
            vector.word[i / 64] |= 1ULL << (i % 64);
    return vector;
}

// Classes for which `holds` says yes, and class 0, in which everybody is. Class 1 + i is conditions[i].
template <typename Holds>
ClassVector classes_where(const Conditions& conditions, Holds holds)
{
    ClassVector classes(1);
    for (std::size_t i = 0; i < conditions.size() && i + 1 < classes.size(); ++i)
        classes.set(i + 1, holds(conditions[i]));
    return classes;
}

FacetRow row(std::uint32_t facet, std::uint32_t device, std::uint64_t value, const ClassVector& classes)
{
    FacetRow made;
    made.key.facet = facet;
    made.key.device = device;
    made.key.value = value;
    made.classes = to_kernel(classes);
    return made;
}

void sort(FacetTable& table)
{
    std::sort(table.begin(), table.end(), [](const FacetRow& a, const FacetRow& b) {
        return std::tie(a.key.facet, a.key.device, a.key.value) < std::tie(b.key.facet, b.key.device, b.key.value);
    });
}

bool has_cgroup_condition(const policy::ProcessCondition& condition)
{
    return condition.unit || condition.container;
}

// The cgroup whose classes the kernel takes for one that has none itself, and whose parent has neither: it looks at
// those of what it lies in at the first levels (bh_cgroup_path).
std::string nearest_looked_at(const std::string& parent)
{
    std::size_t end = 0;
    for (int level = 1; level < BH_CGROUP_LEVELS && end != std::string::npos; ++level)
        end = parent.find('/', end + 1);
    return parent.substr(0, end);
}

// The conditions without what is no matter of cgroups; the numbers of the classes stay.
Conditions cgroup_parts(const Conditions& conditions)
{
    Conditions parts(conditions.size());
    for (std::size_t i = 0; i < conditions.size(); ++i) {
        parts[i].unit = conditions[i].unit;
        parts[i].container = conditions[i].container;
    }
    return parts;
}

bool same_digest(const std::string& wanted, const std::optional<std::string>& actual)
{
    return actual && std::equal(wanted.begin(), wanted.end(), actual->begin(), actual->end(), [](char a, char b) {
               return (a >= 'A' && a <= 'F' ? static_cast<char>(a - 'A' + 'a') : a) == b;
           });
}

// Who has laid what is at a path: the owner of the first part of it that is not root's, who can neither give that away
// nor have another's.
class PlaceOwners {
public:
    // nullopt: all of it is root's.
    std::optional<std::uint32_t> of_place(const std::string& path)
    {
        for (auto end = path.find('/', 1);; end = path.find('/', end + 1)) {
            const auto part = path.substr(0, end);
            const auto known = owners_.find(part);
            const auto owner = known != owners_.end() ? known->second : owner_of(part);
            if (end != std::string::npos)
                owners_[part] = owner;
            if (owner != 0 || end == std::string::npos)
                return owner != 0 ? std::optional(owner) : std::nullopt;
        }
    }

private:
    static std::uint32_t owner_of(const std::string& path)
    {
        const auto place = open_place(path, O_PATH | O_NOFOLLOW);
        const auto shown = place ? show_file(place.get(), "", AT_EMPTY_PATH) : std::nullopt;
        return shown ? shown->file.owner : nobody; // it was there a moment ago
    }

    static constexpr std::uint32_t nobody = 65534;
    std::map<std::string, std::uint32_t> owners_; // of folders
};

class HostSubjectResolver final : public SubjectResolver {
public:
    explicit HostSubjectResolver(const SubjectResolverOptions& options)
        : mount_(options.cgroup_root.empty() ? cgroup_mount_of(options.cgroup) : options.cgroup_root),
          below_(path_below(mount_, options.cgroup)), proc_(options.proc), users_(*options.clock),
          programs_(*options.clock), kept_(*options.clock)
    {}

    FacetTable resolve(const Conditions& conditions, std::chrono::milliseconds patience) override;
    FacetTable with_cgroups_of_now(const Conditions& conditions, FacetTable known) override;
    [[nodiscard]] std::vector<std::string> unmatched() const override { return {unmatched_.begin(), unmatched_.end()}; }

private:
    static std::string path_below(const std::string& mount, const std::string& folder);
    void resolve_users(const Conditions& conditions, FacetTable& table);
    void resolve_cgroups(const Conditions& conditions, FacetTable& table, std::set<std::string>& unmatched) const;
    void resolve_programs(const Conditions& conditions, std::chrono::milliseconds patience, FacetTable& table);

    struct Candidate {
        std::string path; // as the glob sees it
        std::string open; // how to open it
        std::string mountinfo;
        FileIdentity file;
        FileDigests::Party whose;
    };
    [[nodiscard]] std::vector<Candidate> candidates(const std::vector<std::string>& patterns);
    // Patterns of which some are not read yet.
    std::set<std::string> read_digests(const Conditions& conditions, const std::vector<Candidate>& candidates,
                                       std::chrono::milliseconds patience);
    [[nodiscard]] bool runs(const policy::ProcessCondition& condition, const Candidate& candidate) const;

    std::string mount_, below_;
    ProcFiles proc_;
    UserNames users_;
    ProgramFinder programs_;
    KeptPrograms kept_;
    FileDigests digests_;
    std::set<std::string> unmatched_;
};

std::string HostSubjectResolver::path_below(const std::string& mount, const std::string& folder)
{
    const auto path = std::filesystem::path(folder).lexically_normal().lexically_relative(mount).string();
    std::string below = path.empty() || path == "." ? "/" : "/" + path;
    while (below.size() > 1 && below.ends_with('/'))
        below.pop_back();
    return below;
}

FacetTable HostSubjectResolver::resolve(const Conditions& conditions, std::chrono::milliseconds patience)
{
    unmatched_.clear();
    FacetTable table;
    resolve_users(conditions, table);
    resolve_cgroups(conditions, table, unmatched_);
    resolve_programs(conditions, patience, table);
    sort(table);
    return table;
}

FacetTable HostSubjectResolver::with_cgroups_of_now(const Conditions& conditions, FacetTable known)
{
    if (std::none_of(conditions.begin(), conditions.end(), has_cgroup_condition))
        return known;
    std::erase_if(known, [](const FacetRow& row) { return (row.key.facet & ~BH_FACET_DEFAULT) == BH_FACET_CGROUP; });
    std::set<std::string> unmatched;
    resolve_cgroups(conditions, known, unmatched);
    sort(known);
    return known;
}

void HostSubjectResolver::resolve_users(const Conditions& conditions, FacetTable& table)
{
    std::map<std::string, std::optional<std::uint32_t>> uids;
    for (const auto& condition : conditions)
        if (condition.user && !uids.contains(*condition.user)) {
            const auto uid = uids[*condition.user] = users_.uid_of(*condition.user);
            if (!uid)
                unmatched_.insert("user '" + *condition.user + "': no such user on this host");
        }
    table.push_back(row(BH_FACET_USER | BH_FACET_DEFAULT, 0, 0,
                        classes_where(conditions, [](const auto& condition) { return !condition.user; })));
    std::set<std::uint32_t> named;
    for (const auto& [user, uid] : uids)
        if (uid)
            named.insert(*uid);
    for (const auto uid : named)
        table.push_back(row(BH_FACET_USER, 0, uid, classes_where(conditions, [&](const auto& condition) {
                                return !condition.user || uids.at(*condition.user) == uid;
                            })));
}

void HostSubjectResolver::resolve_cgroups(const Conditions& conditions, FacetTable& table,
                                          std::set<std::string>& unmatched) const
{
    const auto by_default =
        classes_where(conditions, [](const auto& condition) { return !has_cgroup_condition(condition); });
    table.push_back(row(BH_FACET_CGROUP | BH_FACET_DEFAULT, 0, 0, by_default));
    if (std::none_of(conditions.begin(), conditions.end(), has_cgroup_condition))
        return;
    // Below a folder that was given to somebody else (Delegate=, chown), names are his.
    std::map<std::string, std::string> named_by_admin; // of a folder's children: how much of their path counts, if cut
    auto left = max_cgroups;
    std::map<std::string, std::size_t> left_to; // by the folder that somebody else is in charge of
    std::optional<std::uint32_t> admin;
    const auto parts = cgroup_parts(conditions);
    ClassVector matched;
    std::map<std::string, ClassVector> given; // to folders that have others than by default
    const bool complete = walk_cgroups(mount_, below_, [&](const CgroupFolder& folder) -> std::size_t& {
        admin = admin.value_or(folder.owner);
        const auto parent = folder.path.substr(0, folder.path.rfind('/'));
        const auto cut = named_by_admin.find(parent);
        const std::string counts = cut != named_by_admin.end() ? cut->second : folder.path;
        if (cut != named_by_admin.end() || folder.owner != *admin)
            named_by_admin.emplace(folder.path, counts);
        const std::string administered(administered_part(counts));
        auto names = parse_cgroup_path(administered);
        policy::ProcessFacts facts;
        facts.units = std::move(names.units);
        facts.container = std::move(names.container);
        const auto classes = classes_where(parts, [&facts](const auto& part) { return policy::holds(part, facts); });
        matched |= classes;
        const auto around = given.find(nearest_looked_at(parent));
        if (classes != (around != given.end() ? around->second : by_default))
            table.push_back(row(BH_FACET_CGROUP, 0, folder.id, classes));
        if (classes != by_default)
            given.emplace(folder.path, classes);
        const bool is_boundary = folder.owner != *admin || administered_part(folder.path + "/x") == folder.path;
        if (administered == folder.path && !is_boundary)
            return left;
        return left_to.try_emplace(administered, max_cgroups_of_others).first->second;
    });
    if (!complete)
        unmatched.insert(
            fmt::format("too many cgroups below {}{} (more than {}, or {} in one container or of one user): "
                        "the others match no unit and no container",
                        mount_, below_, max_cgroups, max_cgroups_of_others));
    for (std::size_t i = 0; i < conditions.size() && i + 1 < matched.size(); ++i) {
        const auto& condition = conditions[i];
        if (matched[i + 1])
            continue;
        if (condition.unit)
            unmatched.insert("unit '" + *condition.unit + "': no such cgroup below " + mount_ + below_);
        if (condition.container)
            unmatched.insert("container '" + *condition.container + "': no such cgroup below " + mount_ + below_);
    }
}

std::vector<HostSubjectResolver::Candidate> HostSubjectResolver::candidates(const std::vector<std::string>& patterns)
{
    std::vector<Candidate> all;
    PlaceOwners owners;
    const auto own_mountinfo = proc_.path(static_cast<std::uint32_t>(::getpid()), "mountinfo");
    for (const auto& pattern : patterns) {
        const auto& found = programs_.find(pattern);
        if (!found.complete)
            unmatched_.insert("exe '" + pattern + "': too many files; those that were not reached match no process");
        for (const auto& path : found.paths)
            if (const auto file = identify_file(path, own_mountinfo); file && file->is_program())
                all.push_back({path, path, own_mountinfo, *file, {0, owners.of_place(path).value_or(file->owner)}});
    }
    std::map<std::string, bool> asked; // many processes run few programs
    const auto wanted = [&](const std::string& path) {
        const auto [answer, fresh] = asked.try_emplace(path, false);
        if (fresh)
            answer->second = std::any_of(patterns.begin(), patterns.end(),
                                         [&path](const auto& pattern) { return policy::glob_matches(pattern, path); });
        return answer->second;
    };
    std::set<std::tuple<std::string, FileIdentity, FileDigests::Party>> seen;
    for (auto& running : running_programs(proc_, below_, kept_, wanted)) {
        const FileDigests::Party whose{running.container, running.user};
        if (seen.emplace(running.path, running.file, whose).second)
            all.push_back(
                {std::move(running.path), std::move(running.link), std::move(running.mountinfo), running.file, whose});
    }
    return all;
}

std::set<std::string> HostSubjectResolver::read_digests(const Conditions& conditions,
                                                        const std::vector<Candidate>& candidates,
                                                        std::chrono::milliseconds patience)
{
    std::map<std::string, std::set<FileIdentity>> wanted; // by pattern
    for (const auto& condition : conditions)
        if (condition.exe && condition.sha256)
            wanted[*condition.exe];
    for (auto& [pattern, files] : wanted)
        for (const auto& candidate : candidates)
            if (policy::glob_matches(pattern, candidate.path)) {
                digests_.want(candidate.file, candidate.open, candidate.mountinfo, candidate.whose);
                files.insert(candidate.file);
            }
    digests_.wait(patience);
    std::set<std::string> unread_of;
    for (const auto& [pattern, files] : wanted)
        if (const auto unread = std::count_if(files.begin(), files.end(),
                                              [this](const auto& file) { return digests_.is_unread(file); })) {
            unread_of.insert(pattern);
            unmatched_.insert(
                fmt::format("exe '{}': {} of {} programs are not read yet for their sha256, and match none", pattern,
                            unread, files.size()));
        }
    return unread_of;
}

bool HostSubjectResolver::runs(const policy::ProcessCondition& condition, const Candidate& candidate) const
{
    return policy::glob_matches(*condition.exe, candidate.path) &&
           (!condition.sha256 || same_digest(*condition.sha256, digests_.of(candidate.file)));
}

void HostSubjectResolver::resolve_programs(const Conditions& conditions, std::chrono::milliseconds patience,
                                           FacetTable& table)
{
    const auto by_default = classes_where(conditions, [](const auto& condition) { return !condition.exe; });
    table.push_back(row(BH_FACET_EXECUTABLE | BH_FACET_DEFAULT, 0, 0, by_default));
    std::vector<std::string> patterns;
    for (const auto& condition : conditions)
        if (condition.exe && std::find(patterns.begin(), patterns.end(), *condition.exe) == patterns.end())
            patterns.push_back(*condition.exe);
    programs_.keep_only(patterns);
    digests_.forget_unwanted();
    if (patterns.empty())
        return kept_.forget_ended(); // another policy may have some: the one that is on trial, or goes on after it
    std::map<std::pair<std::uint32_t, std::uint64_t>, ClassVector> rows; // by device and inode
    ClassVector matched;
    const auto found = candidates(patterns);
    const auto unread_of = read_digests(conditions, found, patience);
    for (const auto& candidate : found) {
        const auto classes = classes_where(
            conditions, [&](const auto& condition) { return !condition.exe || runs(condition, candidate); });
        matched |= classes;
        if (classes != by_default)
            rows[{candidate.file.device, candidate.file.inode}] |= classes; // one file may have several paths
    }
    for (const auto& [file, classes] : rows)
        table.push_back(row(BH_FACET_EXECUTABLE, file.first, file.second, classes));
    for (std::size_t i = 0; i < conditions.size() && i + 1 < matched.size(); ++i)
        if (conditions[i].exe && !matched[i + 1] && !(conditions[i].sha256 && unread_of.contains(*conditions[i].exe)))
            unmatched_.insert("exe '" + *conditions[i].exe +
                              (conditions[i].sha256 ? "': no such program with this sha256" : "': no such program"));
}

} // namespace

std::unique_ptr<SubjectResolver> make_subject_resolver(const SubjectResolverOptions& options)
{
    return std::make_unique<HostSubjectResolver>(options);
}

} // namespace bulkhead::agent
