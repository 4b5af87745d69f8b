// SPDX-License-Identifier: Apache-2.0
#include "cli/host/host_checks.h"

#include "cli/host/gzip.h"

#include <fmt/format.h>

#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

namespace bulkhead::cli {
namespace {

using Grade = Finding::Grade;

// The mount point of the first file system of this type (proc_mounts(5)).
std::optional<std::string> mount_of(const HostPaths& paths, const std::string& type)
{
    std::ifstream mounts(paths.root + "/proc/self/mounts");
    std::string line;
    while (std::getline(mounts, line)) {
        std::istringstream fields(line);
        std::string device;
        std::string point;
        std::string kind;
        if (fields >> device >> point >> kind && kind == type)
            return point;
    }
    return std::nullopt;
}

std::string running_release()
{
    utsname name{};
    ::uname(&name);
    return name.release;
}

bool at_least(const std::string& release, unsigned wanted_major, unsigned wanted_minor)
{
    unsigned major = 0;
    unsigned minor = 0;
    char dot = 0;
    std::istringstream(release) >> major >> dot >> minor;
    return major > wanted_major || (major == wanted_major && minor >= wanted_minor);
}

Finding check_kernel()
{
    const auto release = running_release();
    if (at_least(release, 5, 10))
        return {Grade::good, "kernel",
                fmt::format("{}; the guard by {}", release, at_least(release, 6, 6) ? "tcx" : "clsact"), ""};
    return {Grade::bad, "kernel", fmt::format("{} is older than 5.10", release), "boot a newer kernel"};
}

Finding check_btf(const HostPaths& paths)
{
    std::error_code ignored; // unreadable is absent
    if (std::filesystem::exists(paths.root + "/sys/kernel/btf/vmlinux", ignored))
        return {Grade::good, "BTF", "/sys/kernel/btf/vmlinux", ""};
    return {Grade::bad, "BTF", "the kernel carries no type information", "use a kernel with CONFIG_DEBUG_INFO_BTF=y"};
}

struct KernelOption {
    const char* name;
    const char* without; // what is not possible then
    Grade grade;
};
constexpr KernelOption kernel_options[] = {
    {"CONFIG_BPF_SYSCALL", "no program can be loaded", Grade::bad},
    {"CONFIG_CGROUP_BPF", "outbound cannot be judged", Grade::bad},
    {"CONFIG_INET", "there is no network to judge", Grade::bad},
    {"CONFIG_DEBUG_INFO_BTF", "no program can be loaded", Grade::bad},
    {"CONFIG_NET_CLS_ACT", "the guard cannot be attached (guard: never works)", Grade::bad},
    {"CONFIG_BPF_JIT", "verdicts are interpreted, several times slower", Grade::warning},
    {"CONFIG_INET_DIAG_DESTROY", "sessions that a change forbids cannot be cut", Grade::warning},
    {"CONFIG_INET_DIAG", "sessions of other network namespaces cannot be cut", Grade::warning},
};

Finding check_kernel_config(const HostPaths& paths)
{
    const auto config = kernel_config(paths.root);
    if (!config)
        return {Grade::unseen, "kernel config",
                "no configuration of this kernel can be read, neither /proc/config.gz nor in /boot or /usr/lib/modules",
                "the agent tries what it needs when it starts"};
    Finding finding{Grade::good, "kernel config", "", ""};
    const auto text = "\n" + *config;
    for (const auto& option : kernel_options) {
        const auto set = fmt::format("\n{}=", option.name);
        if (text.find(set + "y") != std::string::npos || text.find(set + "m") != std::string::npos)
            continue;
        finding.what +=
            fmt::format("{}{} is not set: {}", finding.what.empty() ? "" : "; ", option.name, option.without);
        if (finding.grade != Grade::bad)
            finding.grade = option.grade;
        finding.mend = "use a kernel that has it; those of Debian do";
    }
    if (finding.what.empty())
        finding.what = "all that is needed is set";
    return finding;
}

Finding check_lsm(const HostPaths& paths)
{
    const auto modules = first_line(paths.root + "/sys/kernel/security/lsm");
    if (!modules)
        return {Grade::unseen, "LSM", "/sys/kernel/security/lsm cannot be read",
                ::geteuid() == 0 ? "mount -t securityfs securityfs /sys/kernel/security" : "run as root"};
    const auto lockdown = first_line(paths.root + "/sys/kernel/security/lockdown");
    if (lockdown && lockdown->find("[confidentiality]") != std::string::npos)
        return {Grade::bad, "LSM", "lockdown=confidentiality: programs may not read what they decide by",
                "boot with lockdown=integrity"};
    const bool bpf = fmt::format(",{},", *modules).find(",bpf,") != std::string::npos;
    return {Grade::good, "LSM", fmt::format("{}{}", *modules, bpf ? "" : "; bpf is not active, and not needed"), ""};
}

Finding check_cgroup2(const HostPaths& paths)
{
    if (const auto point = mount_of(paths, "cgroup2"))
        return {Grade::good, "cgroup v2",
                fmt::format("{}, {}", *point, mount_of(paths, "cgroup") ? "hybrid (beside v1)" : "unified"), ""};
    return {Grade::bad, "cgroup v2", "not mounted", "boot with systemd.unified_cgroup_hierarchy=1"};
}

Finding check_bpffs(const HostPaths& paths)
{
    if (const auto point = mount_of(paths, "bpf"))
        return {Grade::good, "bpffs", *point, ""};
    return {Grade::warning, "bpffs", "not mounted: the agent mounts it at its start", "mount -t bpf bpf /sys/fs/bpf"};
}

Finding check_jit(const HostPaths& paths)
{
    const auto enabled = first_line(paths.root + "/proc/sys/net/core/bpf_jit_enable");
    if (!enabled) // CONFIG_BPF_JIT_ALWAYS_ON hides the switch from some views, and the file needs root
        return {Grade::good, "BPF JIT", "no switch to read", ""};
    if (*enabled != "0")
        return {Grade::good, "BPF JIT", "on", ""};
    return {Grade::warning, "BPF JIT", "off: verdicts are interpreted, several times slower",
            "sysctl net.core.bpf_jit_enable=1"};
}

constexpr std::uint64_t bit(unsigned capability)
{
    return std::uint64_t{1} << capability;
}

Finding check_capabilities(const HostPaths& paths)
{
    constexpr std::uint64_t net_admin = bit(12);
    constexpr std::uint64_t sys_admin = bit(21);
    constexpr std::uint64_t perfmon_and_bpf = bit(38) | bit(39); // capability.h
    std::ifstream status(paths.root + "/proc/self/status");
    std::string key;
    std::uint64_t effective = 0;
    while (status >> key)
        if (key == "CapEff:") {
            status >> std::hex >> effective;
            break;
        }
    const bool bpf = (effective & sys_admin) != 0 || (effective & perfmon_and_bpf) == perfmon_and_bpf;
    if (bpf && (effective & net_admin) != 0)
        return {Grade::good, "privileges", "may load and attach programs", ""};
    return {::geteuid() == 0 ? Grade::warning : Grade::unseen, "privileges",
            "this shell may not load programs; the agent must (CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN)",
            "run bulkheadd as root or by its systemd unit"};
}

Finding check_clock()
{
    timex state{};
    const int result = ::adjtimex(&state);
    if (result == TIME_ERROR || (state.status & STA_UNSYNC) != 0)
        return {Grade::warning, "clock", "not synchronised: certificates and record times depend on it",
                "run systemd-timesyncd, chrony or ntpd"};
    return {Grade::good, "clock", "synchronised", ""};
}

} // namespace

std::optional<std::string> kernel_config(const std::string& root)
{
    if (auto text = gunzip_file(root + "/proc/config.gz"))
        return text;
    const auto release = running_release();
    if (auto text = whole_file(root + "/boot/config-" + release))
        return text;
    return whole_file(root + "/usr/lib/modules/" + release + "/config"); // Debian, since Linux 7
}

Findings check_host(const HostPaths& paths)
{
    return {check_kernel(),       check_kernel_config(paths), check_btf(paths),
            check_cgroup2(paths), check_bpffs(paths),         check_jit(paths),
            check_lsm(paths),     check_capabilities(paths),  check_clock()};
}

} // namespace bulkhead::cli
