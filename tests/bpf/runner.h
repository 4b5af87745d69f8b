// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <string>

namespace bulkhead::test {

// A program that is attached to an interface of the guarded namespace, run on a frame without being there. The frame
// has a socket, of no family.
class Runner {
public:
    explicit Runner(std::uint32_t id) : program_(bpf_prog_get_fd_by_id(id)) {}
    [[nodiscard]] bool there() const { return static_cast<bool>(program_); }
    int operator()(const std::string& frame) const
    {
        LIBBPF_OPTS(bpf_test_run_opts, run, .data_in = frame.data(), .data_size_in = static_cast<__u32>(frame.size()),
                    .repeat = 1);
        return bpf_prog_test_run_opts(program_.get(), &run) == 0 ? static_cast<int>(run.retval) : -EINVAL;
    }

private:
    UniqueFd program_;
};

// The guard's on a side of an interface, by the pin of its link; nullopt where the kernel has no tcx.
inline std::optional<Runner> guard_of(const std::string& pin_folder, int interface, const char* side)
{
    const std::string pin = pin_folder + "/links/guard_" + std::to_string(interface) + "_" + side;
    const UniqueFd link(bpf_obj_get(pin.c_str()));
    bpf_link_info info{};
    __u32 size = sizeof(info);
    if (!link || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0)
        return std::nullopt;
    return Runner(info.prog_id);
}

} // namespace bulkhead::test
