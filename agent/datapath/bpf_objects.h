// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h" // the skeleton names its types
#include "common/core/unique_fd.h"

#include "datapath.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <memory>
#include <vector>

namespace bulkhead::agent {

struct SkeletonDeleter {
    void operator()(::datapath* skeleton) const { ::datapath::destroy(skeleton); }
    std::vector<std::shared_ptr<::datapath>> teams; // that own what skeleton->progs name (programs.cpp)
};
using Skeleton = std::unique_ptr<::datapath, SkeletonDeleter>;

struct LinkDeleter {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using Link = std::unique_ptr<bpf_link, LinkDeleter>; // a pinned link stays attached when this goes

// 0: it is no program.
[[nodiscard]] inline __u32 program_id(int program)
{
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    return bpf_obj_get_info_by_fd(program, &info, &size) == 0 ? info.id : 0;
}

} // namespace bulkhead::agent
