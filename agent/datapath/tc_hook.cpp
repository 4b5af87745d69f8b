// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/tc_hook.h"

#include "agent/datapath/bpf_objects.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string_view>

namespace bulkhead::agent {

namespace {

// linux/bpf.h of 6.6; Debian 12's is older than the kernels that we run on.
constexpr auto tcx_ingress = static_cast<bpf_attach_type>(46);
constexpr auto tcx_egress = static_cast<bpf_attach_type>(47);
constexpr __u32 before_all_others = 1U << 3; // BPF_F_BEFORE without a program to be before

constexpr __u32 filter_handle = 0xb10c;
constexpr __u32 filter_priority = 1;

bpf_attach_type tcx_type(PacketSide side)
{
    return side == PacketSide::entering ? tcx_ingress : tcx_egress;
}

UniqueFd create_tcx_link(int program, int index, PacketSide side)
{
    LIBBPF_OPTS(bpf_link_create_opts, options, .flags = before_all_others);
    return UniqueFd(bpf_link_create(program, index, tcx_type(side), &options));
}

// The interface that a link is on; 0: it is gone. The header does not know tcx; its index is the union's first member.
__u32 interface_of(int link, __u32& program)
{
    bpf_link_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(link, &info, &size) != 0)
        return 0;
    program = info.prog_id;
    return info.xdp.ifindex;
}

// Another namespace may have an interface of this number, moved there with a link of ours on it. Links are told by the
// programs that the interface itself names, in the calling thread's namespace.
bool is_on(int link, int index, PacketSide side, __u32& program)
{
    if (interface_of(link, program) != static_cast<__u32>(index))
        return false;
    const auto programs = tcx_programs(index, side);
    return std::find(programs.begin(), programs.end(), program) != programs.end();
}

Status attach_tcx(const PinFolder& pins, int index, PacketSide side, int program)
{
    const std::string path = pins.link(guard_pin(index, side));
    if (const UniqueFd old(bpf_obj_get(path.c_str())); old) {
        __u32 ignored = 0;
        if (is_on(old.get(), index, side, ignored)) {
            if (bpf_link_update(old.get(), program, nullptr) != 0)
                return fail_errno(errno, fmt::format("replace the program of {}", path));
            return {};
        }
        (void)::unlink(path.c_str()); // of an interface that is gone, or is another namespace's now
    }
    const UniqueFd link = create_tcx_link(program, index, side);
    if (!link)
        return fail_errno(errno, "attach a tcx program");
    if (bpf_obj_pin(link.get(), path.c_str()) != 0)
        return fail_errno(errno, fmt::format("pin {}", path));
    return {};
}

bpf_tc_hook hook_of(int index, PacketSide side)
{
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = index;
    hook.attach_point = side == PacketSide::entering ? BPF_TC_INGRESS : BPF_TC_EGRESS;
    return hook;
}

bpf_tc_opts filter(int program = 0)
{
    bpf_tc_opts options{};
    options.sz = sizeof(options);
    options.handle = filter_handle;
    options.priority = filter_priority;
    options.prog_fd = program;
    return options;
}

// Another's filter may have our handle; it has not our name.
bool is_ours(std::uint32_t program)
{
    const UniqueFd fd(bpf_prog_get_fd_by_id(program));
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    return fd && bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 &&
           std::string_view(static_cast<const char*>(info.name)).starts_with("bh_guard_");
}

// Id of the program that our filter of this side runs; 0: there is none.
std::uint32_t filter_program(int index, PacketSide side)
{
    bpf_tc_hook hook = hook_of(index, side);
    bpf_tc_opts options = filter();
    return bpf_tc_query(&hook, &options) == 0 ? options.prog_id : 0;
}

void remove_filter(int index, PacketSide side)
{
    bpf_tc_hook hook = hook_of(index, side);
    bpf_tc_opts options = filter();
    (void)bpf_tc_detach(&hook, &options);
}

Status attach_filter(int index, PacketSide side, int program)
{
    bpf_tc_hook hook = hook_of(index, side);
    if (const int error = bpf_tc_hook_create(&hook); error != 0 && error != -EEXIST)
        return fail_errno(-error, "add a clsact queueing discipline");
    bpf_tc_opts options = filter(program);
    options.flags = BPF_TC_F_REPLACE;
    if (const int error = bpf_tc_attach(&hook, &options); error != 0)
        return fail_errno(-error, "add a tc filter");
    // The discipline `ingress`, in the place of clsact, takes a filter for what leaves and puts it to what enters
    // (ingress_tcf_block in net/sched/sch_ingress.c), where it has replaced the other.
    const auto other = side == PacketSide::entering ? PacketSide::leaving : PacketSide::entering;
    if (filter_program(index, other) == program_id(program)) {
        remove_filter(index, side);
        Error error{ErrorKind::failed, "it has the queueing discipline ingress, which has no side for what leaves", {}};
        error.mend = "remove it (tc qdisc del dev NAME ingress); clsact, which the agent adds, takes the same filters";
        return tl::unexpected(std::move(error));
    }
    return {};
}

} // namespace

std::vector<std::uint32_t> tcx_programs(int index, PacketSide side)
{
    std::vector<std::uint32_t> programs(64); // BPF_MPROG_MAX of the kernel
    auto count = static_cast<__u32>(programs.size());
    __u32 flags = 0;
    if (bpf_prog_query(index, tcx_type(side), 0, &flags, programs.data(), &count) != 0)
        return {};
    programs.resize(std::min<std::size_t>(count, programs.size()));
    return programs;
}

TcFilter our_filter(int index, PacketSide side)
{
    const __u32 block = side == PacketSide::entering ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS;
    return {index, TC_H_MAKE(TC_H_CLSACT, block), filter_handle, filter_priority};
}

int link_interface(int link)
{
    __u32 program = 0;
    return static_cast<int>(interface_of(link, program));
}

bool acts_on(int link, int index, PacketSide side)
{
    __u32 program = 0;
    return is_on(link, index, side, program);
}

std::string guard_pin(int index, PacketSide side)
{
    return fmt::format("{}{}_{}", guard_pin_prefix, index, side == PacketSide::entering ? "in" : "out");
}

TcKind find_tc_kind(int program)
{
    // The loopback interface of every namespace has index 1; index 0 is refused with another error than an unknown
    // kind.
    const UniqueFd link = create_tcx_link(program, 0, PacketSide::entering);
    return errno == EINVAL ? TcKind::clsact : TcKind::tcx;
}

Status attach_to_interface(TcKind kind, const PinFolder& pins, int index, PacketSide side, int program)
{
    return kind == TcKind::tcx ? attach_tcx(pins, index, side, program) : attach_filter(index, side, program);
}

std::uint32_t attached_program(TcKind kind, const PinFolder& pins, int index, PacketSide side)
{
    __u32 program = 0;
    if (kind == TcKind::tcx) {
        const UniqueFd link(bpf_obj_get(pins.link(guard_pin(index, side)).c_str()));
        return link && is_on(link.get(), index, side, program) ? program : 0;
    }
    program = filter_program(index, side);
    return is_ours(program) ? program : 0;
}

void detach_from_interface(TcKind kind, const PinFolder& pins, int index, PacketSide side)
{
    if (kind == TcKind::tcx) {
        const std::string path = pins.link(guard_pin(index, side));
        if (const UniqueFd link(bpf_obj_get(path.c_str())); link)
            (void)bpf_link_detach(link.get());
        (void)::unlink(path.c_str());
        return;
    }
    remove_filter(index, side);
}

void remove_clsact(int index)
{
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = index;
    hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
    (void)bpf_tc_hook_destroy(&hook);
}

} // namespace bulkhead::agent
