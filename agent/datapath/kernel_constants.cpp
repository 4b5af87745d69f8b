// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/kernel_constants.h"

#include <bpf/btf.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

namespace bulkhead::agent {

namespace {

void find_socket_bits(const btf* kernel, KernelConstants& found)
{
    for (__u32 id = 1; id < btf__type_cnt(kernel); ++id) {
        const btf_type* type = btf__type_by_id(kernel, id);
        if (!btf_is_enum(type) || type->name_off != 0)
            continue;
        const struct btf_enum* enumerators = btf_enum(type);
        for (__u16 i = 0; i < btf_vlen(type); ++i) {
            const std::string_view name = btf__name_by_offset(kernel, enumerators[i].name_off);
            if (name == "INET_FLAGS_FREEBIND" || name == "INET_FLAGS_TRANSPARENT")
                found.foreign_source_bits |= std::uint64_t{1} << enumerators[i].val;
            if (name == "INET_FLAGS_TRANSPARENT")
                found.transparent_bit = std::uint64_t{1} << enumerators[i].val;
        }
    }
}

// In bytes; also of members of its members without a name.
std::optional<std::uint32_t> offset_of_member(const btf* kernel, __u32 id, std::string_view name)
{
    const btf_type* type = btf__type_by_id(kernel, id);
    if (type == nullptr || !btf_is_composite(type))
        return std::nullopt;
    const btf_member* members = btf_members(type);
    for (__u16 i = 0; i < btf_vlen(type); ++i) {
        const std::uint32_t offset = btf_member_bit_offset(type, i) / 8;
        const std::string_view own = btf__name_by_offset(kernel, members[i].name_off);
        if (own == name)
            return offset;
        if (own.empty())
            if (const auto inner = offset_of_member(kernel, members[i].type, name))
                return offset + *inner;
    }
    return std::nullopt;
}

struct Variable {
    std::int64_t offset;
    __u32 type;
};

std::optional<Variable> variable_of_cpu(const btf* kernel, const char* name)
{
    const auto section = btf__find_by_name_kind(kernel, ".data..percpu", BTF_KIND_DATASEC);
    if (section < 0)
        return std::nullopt;
    const btf_type* type = btf__type_by_id(kernel, static_cast<__u32>(section));
    const btf_var_secinfo* variables = btf_var_secinfos(type);
    for (__u16 i = 0; i < btf_vlen(type); ++i) {
        const btf_type* variable = btf__type_by_id(kernel, variables[i].type);
        if (std::strcmp(btf__name_by_offset(kernel, variable->name_off), name) == 0)
            return Variable{variables[i].offset, variable->type};
    }
    return std::nullopt;
}

// A variable of its own, or (6.2 to 6.14) a member of pcpu_hot.
std::optional<std::int64_t> preempt_count(const btf* kernel)
{
    if (const auto alone = variable_of_cpu(kernel, "__preempt_count"))
        return alone->offset;
    const auto hot = variable_of_cpu(kernel, "pcpu_hot");
    const auto member = hot ? offset_of_member(kernel, hot->type, "preempt_count") : std::nullopt;
    if (!member)
        return std::nullopt;
    return hot->offset + *member;
}

std::optional<std::uint32_t> offset_in(const btf* kernel, const char* structure, std::string_view member)
{
    const auto id = btf__find_by_name_kind(kernel, structure, BTF_KIND_STRUCT);
    return id < 0 ? std::nullopt : offset_of_member(kernel, static_cast<__u32>(id), member);
}

// As bh_preempt_count() of bpf/context.h finds it.
bool preempt_count_is_known(const btf* kernel, const KernelConstants& found)
{
    if (offset_in(kernel, "task_struct", "softirq_disable_cnt")) // CONFIG_PREEMPT_RT
        return false;
    if (offset_in(kernel, "thread_info", "preempt")) // arm64
        return true;
    return found.preempt_count_from_runqueues != 0 && offset_in(kernel, "sched_entity", "cfs_rq").has_value();
}

} // namespace

KernelConstants find_kernel_constants()
{
    KernelConstants found;
    const std::unique_ptr<btf, decltype(&btf__free)> kernel(btf__load_vmlinux_btf(), btf__free);
    if (!kernel)
        return found;
    find_socket_bits(kernel.get(), found);
    const auto runqueues = variable_of_cpu(kernel.get(), "runqueues");
    const auto count = preempt_count(kernel.get());
    if (runqueues && count)
        found.preempt_count_from_runqueues = *count - runqueues->offset;
    found.questions_are_told_apart = preempt_count_is_known(kernel.get(), found);
    return found;
}

} // namespace bulkhead::agent
