// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/interfaces.h"
#include "agent/datapath/pins.h"
#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::agent {

enum class PacketSide { entering, leaving };

// How a program is put on an interface. tcx: a pinned link, before all others there (Linux 6.6). clsact: a filter of
// priority 1 with a handle of our own in a queueing discipline that may be another's as well (any Linux).
enum class TcKind { tcx, clsact };

// What this kernel has.
[[nodiscard]] TcKind find_tc_kind(int program);

// Puts `program` on one side of an interface of the calling thread's network namespace. What is ours there already gets
// the new program in place, without a moment in which none runs.
[[nodiscard]] Status attach_to_interface(TcKind kind, const PinFolder& pins, int index, PacketSide side, int program);

// Id of the program of ours that acts there now; 0: none.
[[nodiscard]] std::uint32_t attached_program(TcKind kind, const PinFolder& pins, int index, PacketSide side);

// One question each, which says that something acts, but not that all is as attach_to_interface() left it.
[[nodiscard]] std::vector<std::uint32_t> tcx_programs(int index, PacketSide side); // ids, in the thread's namespace
[[nodiscard]] TcFilter our_filter(int index, PacketSide side); // of clsact, for InterfaceWatch::program_of()

// The interface that a tcx link acts on; 0: none any more.
[[nodiscard]] int link_interface(int link);

// Takes ours away; others' stay. No error when there is nothing.
void detach_from_interface(TcKind kind, const PinFolder& pins, int index, PacketSide side);

// Takes the clsact queueing discipline away, and with it whatever filters are in it. No error when there is none.
void remove_clsact(int index);

// Whether a tcx link acts on that interface of the calling thread's network namespace.
[[nodiscard]] bool acts_on(int link, int index, PacketSide side);

// Name of the pin of a tcx link.
inline constexpr std::string_view guard_pin_prefix = "guard_";
[[nodiscard]] std::string guard_pin(int index, PacketSide side);

} // namespace bulkhead::agent
