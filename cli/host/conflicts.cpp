// SPDX-License-Identifier: Apache-2.0
#include "cli/host/conflicts.h"

#include "cli/host/refusals.h"
#include "common/core/unique_fd.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <sys/syscall.h>
#include <unistd.h>

namespace bulkhead::cli {
namespace {

using Grade = Finding::Grade;

constexpr std::size_t names_shown = 8;

std::string some_of(const std::set<std::string>& names)
{
    std::vector<std::string> shown(names.begin(), names.end());
    const auto more = shown.size() > names_shown ? shown.size() - names_shown : 0;
    shown.resize(shown.size() - more);
    return fmt::format("{}{}", fmt::join(shown, ", "), more == 0 ? "" : fmt::format(" and {} more", more));
}

Finding judge_filter(const std::string& check, const Refusals& found, const std::string& list)
{
    if (!found.any())
        return {Grade::good, check, "no rule refuses anything", ""};
    return {
        Grade::warning, check,
        fmt::format("{} rules and {} chain policies drop, reject or queue: what a policy allows may still not arrive",
                    found.rules, found.policies),
        fmt::format("see '{}', and remove what Bulkhead is to decide", list)};
}

Finding check_nftables(const HostPaths& paths)
{
    // Rules of iptables-nft are in it, too.
    if (const auto ruleset = paths.output_of({"nft", "list", "ruleset"}))
        return judge_filter("nftables", count_nft(*ruleset), "nft list ruleset");
    const auto four = paths.output_of({"iptables-nft-save"}), six = paths.output_of({"ip6tables-nft-save"});
    if (four && six)
        return judge_filter("nftables", count_iptables(*four + *six), "iptables-nft-save");
    if (::geteuid() != 0)
        return {Grade::unseen, "nftables", "cannot be listed by this user", "run as root"};
    return {Grade::unseen, "nftables", "cannot be listed: there is no nft",
            "install the package nftables, then run this again"};
}

Findings check_iptables(const HostPaths& paths)
{
    Findings findings;
    for (const auto& [family, program] : {std::pair("ip", "iptables-legacy-save"), {"ip6", "ip6tables-legacy-save"}}) {
        const auto tables = first_line(fmt::format("{}/proc/net/{}_tables_names", paths.root, family));
        if (!tables) // no such tables, or none that this shell may see
            continue;
        if (const auto saved = paths.output_of({program}))
            findings.push_back(judge_filter(fmt::format("{}tables", family), count_iptables(*saved), program));
        else
            findings.push_back({Grade::unseen, fmt::format("{}tables", family),
                                fmt::format("has tables that {} does not list", program), "run as root"});
    }
    return findings;
}

int bpf_call(int command, bpf_attr& attribute)
{
    return static_cast<int>(::syscall(__NR_bpf, command, &attribute, sizeof attribute));
}

std::optional<LoadedProgram> program_of(std::uint32_t id)
{
    bpf_attr by_id{};
    by_id.prog_id = id;
    const UniqueFd fd(bpf_call(BPF_PROG_GET_FD_BY_ID, by_id));
    if (!fd)
        return std::nullopt;
    bpf_prog_info info{};
    bpf_attr of{};
    of.info.bpf_fd = static_cast<std::uint32_t>(fd.get());
    of.info.info_len = sizeof info;
    of.info.info = reinterpret_cast<std::uint64_t>(&info);
    if (bpf_call(BPF_OBJ_GET_INFO_BY_FD, of) != 0)
        return std::nullopt;
    return LoadedProgram{info.type, std::string(info.name, ::strnlen(info.name, sizeof info.name))};
}

// nullopt: of a kind that decides nothing about traffic.
std::optional<std::string> kind_of(std::uint32_t type)
{
    switch (type) {
    case BPF_PROG_TYPE_SCHED_CLS:
    case BPF_PROG_TYPE_SCHED_ACT: return "tc";
    case BPF_PROG_TYPE_XDP: return "XDP";
    case BPF_PROG_TYPE_CGROUP_SKB:
    case BPF_PROG_TYPE_CGROUP_SOCK:
    case BPF_PROG_TYPE_CGROUP_SOCK_ADDR:
    case BPF_PROG_TYPE_CGROUP_SOCKOPT:
    case BPF_PROG_TYPE_SOCK_OPS: return "cgroup";
    case BPF_PROG_TYPE_SK_LOOKUP: return "sk_lookup";
    case BPF_PROG_TYPE_SK_REUSEPORT:
    case BPF_PROG_TYPE_SK_SKB:
    case BPF_PROG_TYPE_SK_MSG: return "socket";
    default: return std::nullopt;
    }
}

Finding check_other_agents(const HostPaths& paths)
{
    static constexpr std::array others = {"cilium-agent", "calico-node", "felix",    "antrea-agent",
                                          "kube-router",  "firewalld",   "bpfilter", "tetragon"};
    std::set<std::string> found;
    std::error_code ignored; // processes end while one looks
    for (const auto& entry : std::filesystem::directory_iterator(paths.root + "/proc", ignored)) {
        const auto comm = first_line(entry.path() / "comm");
        if (comm && std::find(others.begin(), others.end(), *comm) != others.end())
            found.insert(*comm);
    }
    if (found.empty())
        return {Grade::good, "other agents", "none that is known to decide about traffic", ""};
    return {Grade::warning, "other agents", fmt::format("{} decides about traffic, too", some_of(found)),
            "agree on who decides what, or stop it"};
}

} // namespace

std::optional<std::vector<LoadedProgram>> loaded_programs()
{
    std::vector<LoadedProgram> programs;
    bpf_attr attribute{};
    while (bpf_call(BPF_PROG_GET_NEXT_ID, attribute) == 0) {
        if (auto program = program_of(attribute.next_id))
            programs.push_back(std::move(*program));
        const auto last = attribute.next_id;
        attribute = {};
        attribute.start_id = last;
    }
    if (errno != ENOENT) // which says that there are no more
        return std::nullopt;
    return programs;
}

Finding judge_programs(const std::optional<std::vector<LoadedProgram>>& programs)
{
    if (!programs)
        return {Grade::unseen, "BPF programs", "this shell may not list them", "run as root"};
    std::set<std::string> foreign;
    std::size_t ours = 0, systemds = 0;
    for (const auto& program : *programs) {
        const auto kind = kind_of(program.type);
        if (!kind)
            continue;
        if (program.name.starts_with("bh_"))
            ++ours;
        else if (program.name.starts_with("sd_")) // IPAddressDeny= and the like: of single units
            ++systemds;
        else
            foreign.insert(fmt::format("{} ({})", program.name.empty() ? "unnamed" : program.name, *kind));
    }
    if (foreign.empty())
        return {Grade::good, "BPF programs",
                fmt::format("{} of Bulkhead, {} of systemd for single units, no others at its hooks", ours, systemds),
                ""};
    return {Grade::warning, "BPF programs",
            fmt::format("others decide about traffic, too, on this host or in a container of it: {}", some_of(foreign)),
            "see 'bpftool link show' and 'bpftool net show' (package bpftool), and remove what Bulkhead is to decide"};
}

Findings check_conflicts(const HostPaths& paths)
{
    Findings findings{check_nftables(paths)};
    for (auto& finding : check_iptables(paths))
        findings.push_back(std::move(finding));
    findings.push_back(judge_programs(loaded_programs()));
    findings.push_back(check_other_agents(paths));
    return findings;
}

} // namespace bulkhead::cli
