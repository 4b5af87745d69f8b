// SPDX-License-Identifier: Apache-2.0
//
// The frames of a chain of calls share 512 bytes (MAX_BPF_STACK), and a chain has at most eight (MAX_CALL_FRAMES). How
// a frame counts differs: before Linux 6.11 in steps of 32 bytes, and what a kernel jumps over as dead code counts
// elsewhere. So this looks at all code, and counts as the old kernels do: what does not fit there fails here.
#include "agent/datapath/bpf_objects.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <string>

namespace bulkhead::agent {
namespace {

constexpr int most_bytes = 512, most_frames = 8, step = 32;

struct Function {
    int bytes = 0;
    std::set<int> calls; // by where they begin
};

// Of a program with all that it calls, by where each begins.
std::map<int, Function> functions_of(std::span<const bpf_insn> code)
{
    std::map<int, Function> functions{{0, {}}};
    const auto is_call = [](const bpf_insn& one) {
        return one.code == (BPF_JMP | BPF_CALL) && one.src_reg == BPF_PSEUDO_CALL;
    };
    const auto target = [&](std::size_t at) { return static_cast<int>(at) + 1 + code[at].imm; };
    for (std::size_t at = 0; at < code.size(); ++at)
        if (is_call(code[at]))
            functions[target(at)];
    auto current = functions.begin();
    std::set<int> frame_pointers; // registers that hold the frame's address
    for (std::size_t at = 0; at < code.size(); ++at) {
        if (const auto begins = functions.find(static_cast<int>(at)); begins != functions.end()) {
            current = begins;
            frame_pointers = {BPF_REG_10};
        }
        auto& function = current->second;
        const auto& one = code[at];
        const auto uses = [&](int offset) { function.bytes = std::max(function.bytes, -offset); };
        const int kind = BPF_CLASS(one.code);
        if (is_call(one))
            function.calls.insert(target(at));
        if (((kind == BPF_ST || kind == BPF_STX) && one.dst_reg == BPF_REG_10) ||
            (kind == BPF_LDX && one.src_reg == BPF_REG_10))
            uses(one.off);
        if (kind != BPF_ALU64 && kind != BPF_LDX)
            continue;
        if (one.code == (BPF_ALU64 | BPF_ADD | BPF_K) && frame_pointers.contains(one.dst_reg)) {
            uses(one.imm);
            frame_pointers.erase(one.dst_reg);
        } else if (one.code == (BPF_ALU64 | BPF_MOV | BPF_X) && one.src_reg == BPF_REG_10) {
            frame_pointers.insert(one.dst_reg);
        } else if (one.dst_reg != BPF_REG_10) {
            frame_pointers.erase(one.dst_reg);
        }
    }
    return functions;
}

struct Chain {
    int bytes = 0, frames = 0;
};

// The most of each, not necessarily of one chain.
Chain deepest(const std::map<int, Function>& functions, int from)
{
    Chain below;
    for (const int called : functions.at(from).calls) {
        const auto chain = deepest(functions, called);
        below = {std::max(below.bytes, chain.bytes), std::max(below.frames, chain.frames)};
    }
    return {below.bytes + std::max((functions.at(from).bytes + step - 1) / step * step, step), below.frames + 1};
}

TEST(CallStack, FitsAlsoWhereFramesCountInLargeSteps)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "needs root: loads programs";
    const Skeleton skeleton(::datapath::open());
    ASSERT_TRUE(skeleton);
    ASSERT_EQ(::datapath::load(skeleton.get()), 0);
    int looked_at = 0;
    const bpf_program* program = nullptr;
    while ((program = bpf_object__next_program(skeleton->obj, const_cast<bpf_program*>(program))) != nullptr) {
        const auto functions = functions_of({bpf_program__insns(program), bpf_program__insn_cnt(program)});
        const auto chain = deepest(functions, 0);
        EXPECT_LE(chain.bytes, most_bytes) << bpf_program__name(program);
        EXPECT_LE(chain.frames, most_frames) << bpf_program__name(program);
        looked_at += functions.size() > 1;
    }
    EXPECT_GT(looked_at, 10);
}

} // namespace
} // namespace bulkhead::agent
