// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/cgroups.h"
#include "agent/datapath/datapath.h"

#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace bulkhead::agent {

namespace {

constexpr const char* kernel_btf = "/sys/kernel/btf/vmlinux";

std::uint64_t effective_capabilities()
{
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> data{};
    if (::syscall(SYS_capget, &header, data.data()) != 0)
        return 0;
    return data[0].effective | std::uint64_t{data[1].effective} << 32;
}

// CAP_BPF and CAP_PERFMON came with 5.8; CAP_SYS_ADMIN includes both.
std::vector<std::string> missing_capabilities()
{
    struct Needed {
        int number;
        const char* name;
        bool within_sys_admin;
        const char* what_for;
    };
    static constexpr Needed needed[] = {
        {CAP_BPF, "CAP_BPF", true, "to load programs and maps"},
        {CAP_PERFMON, "CAP_PERFMON", true, "to let programs read which process asks"},
        {CAP_NET_ADMIN, "CAP_NET_ADMIN", false, "to attach to sockets and namespaces"},
    };
    const std::uint64_t held = effective_capabilities();
    const auto holds = [held](int capability) { return (held >> capability & 1) != 0; };
    std::vector<std::string> missing;
    for (const Needed& one : needed)
        if (!holds(one.number) && !(one.within_sys_admin && holds(CAP_SYS_ADMIN)))
            missing.push_back(fmt::format("{} is missing, needed {}: run as root, or grant it (AmbientCapabilities={} "
                                          "in the unit)",
                                          one.name, one.what_for, one.name));
    return missing;
}

std::string kernel_release()
{
    utsname name{};
    return ::uname(&name) == 0 ? name.release : "unknown";
}

std::vector<std::string> missing_in_kernel()
{
    struct Program {
        bpf_prog_type type;
        const char* name;
        const char* option;
    };
    static constexpr Program programs[] = {
        {BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "cgroup/connect, sendmsg", "Linux 5.10 and CONFIG_CGROUP_BPF"},
        {BPF_PROG_TYPE_CGROUP_SOCK, "cgroup/post_bind, sock_release", "Linux 5.10 and CONFIG_CGROUP_BPF"},
        {BPF_PROG_TYPE_SOCK_OPS, "sock_ops", "Linux 5.10 and CONFIG_CGROUP_BPF"},
        {BPF_PROG_TYPE_SK_LOOKUP, "sk_lookup", "Linux 5.10 and CONFIG_INET"},
        {BPF_PROG_TYPE_SCHED_CLS, "tc", "Linux 5.10 and CONFIG_NET_CLS_BPF"},
    };
    std::vector<std::string> missing;
    const auto report = [&](const char* what, const char* needs) {
        missing.push_back(fmt::format("this kernel ({}) has no {}: needs {}", kernel_release(), what, needs));
    };
    for (const Program& program : programs)
        if (libbpf_probe_bpf_prog_type(program.type, nullptr) != 1)
            report(fmt::format("BPF programs of type {}", program.name).c_str(), program.option);
    if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_RINGBUF, nullptr) != 1)
        report("BPF ring buffers", "Linux 5.10");
    if (libbpf_probe_bpf_map_type(BPF_MAP_TYPE_LPM_TRIE, nullptr) != 1)
        report("BPF prefix tries", "Linux 5.10");
    return missing;
}

} // namespace

std::vector<std::string> missing_features(const DatapathOptions& options)
{
    std::vector<std::string> missing = missing_capabilities();
    const bool privileged = missing.empty();

    if (options.cgroup.empty())
        missing.emplace_back("no cgroup is named: give --cgroup, or mount the cgroup v2 hierarchy");
    else if (const auto id = cgroup_id_of(options.cgroup); !id)
        missing.push_back(id.error().message + (id.error().mend.empty() ? "" : ": " + id.error().mend));
    if (::access(kernel_btf, R_OK) != 0)
        missing.push_back(fmt::format("{} cannot be read: the kernel must be built with CONFIG_DEBUG_INFO_BTF "
                                      "(Debian's are, since 11)",
                                      kernel_btf));
    // Without privileges every probe fails, which says nothing of the kernel.
    if (privileged)
        for (auto& line : missing_in_kernel())
            missing.push_back(std::move(line));
    return missing;
}

} // namespace bulkhead::agent
