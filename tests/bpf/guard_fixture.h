// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <net/if.h>

#include <array>
#include <cstddef>

namespace bulkhead::test {

// The guarded host with the packet guard on its wire.
class GuardTest : public BpfTest, public testing::WithParamInterface<bool> {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.guard.attach = true;
        options.guard.force_clsact = GetParam();
        return options;
    }

    bool denial_seen(std::uint8_t protocol)
    {
        return drained_count([&](const bh_event& event) {
                   return event.type == BH_EVENT_DENY && event.protocol == protocol;
               }) > 0;
    }

    std::optional<bh_event> denial(std::uint8_t protocol)
    {
        return wait_for(
            [&](const bh_event& event) { return event.type == BH_EVENT_DENY && event.protocol == protocol; });
    }
};

inline TestPolicy closed()
{
    return TestPolicy().default_action(inbound, refuse).default_action(outbound, refuse);
}

// Somebody's, after ours, in the calling thread's namespace. It marks every packet (skb->tc_index).
inline bool add_foreign_filter(const char* interface, bpf_tc_attach_point where = BPF_TC_EGRESS, int mark = 0)
{
    std::array<bpf_insn, 4> code{};
    code[0].code = BPF_ALU64 | BPF_MOV | BPF_K;
    code[0].imm = mark;
    code[1].code = BPF_STX | BPF_MEM | BPF_W;
    code[1].dst_reg = BPF_REG_1;
    code[1].off = offsetof(__sk_buff, tc_index);
    code[2].code = BPF_ALU64 | BPF_MOV | BPF_K;
    code[2].imm = -1; // TC_ACT_UNSPEC
    code[3].code = BPF_JMP | BPF_EXIT;
    const UniqueFd program(bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "foreign", "GPL", code.data(), code.size(), nullptr));
    LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = static_cast<int>(::if_nametoindex(interface)), .attach_point = where);
    LIBBPF_OPTS(bpf_tc_opts, filter, .prog_fd = program.get(), .flags = BPF_TC_F_REPLACE, .handle = 1,
                .priority = 60000);
    return bpf_tc_attach(&hook, &filter) == 0;
}

} // namespace bulkhead::test
