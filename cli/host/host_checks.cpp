// SPDX-License-Identifier: Apache-2.0
#include "cli/host/host_checks.h"

#include <fmt/format.h>

#include <sys/timex.h>
#include <sys/utsname.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

namespace bulkhead::cli {
namespace {

using Grade = Finding::Grade;

std::optional<std::string> first_line(const std::string& path)
{
    std::ifstream file(path);
    std::string line;
    if (!file || !std::getline(file, line))
        return std::nullopt;
    return line;
}

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

Finding check_kernel()
{
    utsname name{};
    ::uname(&name);
    unsigned major = 0;
    unsigned minor = 0;
    std::istringstream release(name.release);
    char dot = 0;
    release >> major >> dot >> minor;
    if (major > 5 || (major == 5 && minor >= 10))
        return {Grade::good, "kernel", name.release, ""};
    return {Grade::bad, "kernel", fmt::format("{} is older than 5.10", name.release), "boot a newer kernel"};
}

Finding check_btf(const HostPaths& paths)
{
    std::error_code ignored; // unreadable is absent
    if (std::filesystem::exists(paths.root + "/sys/kernel/btf/vmlinux", ignored))
        return {Grade::good, "BTF", "/sys/kernel/btf/vmlinux", ""};
    return {Grade::bad, "BTF", "the kernel carries no type information", "use a kernel with CONFIG_DEBUG_INFO_BTF=y"};
}

Finding check_cgroup2(const HostPaths& paths)
{
    if (const auto point = mount_of(paths, "cgroup2"))
        return {Grade::good, "cgroup v2", *point, ""};
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
    return {Grade::warning, "privileges",
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

std::vector<Finding> check_host(const HostPaths& paths)
{
    return {check_kernel(),   check_btf(paths),          check_cgroup2(paths), check_bpffs(paths),
            check_jit(paths), check_capabilities(paths), check_clock()};
}

} // namespace bulkhead::cli
