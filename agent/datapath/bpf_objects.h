// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h" // the skeleton names its types
#include "common/core/unique_fd.h"

#include "datapath.skel.h"

#include <bpf/libbpf.h>

#include <memory>

namespace bulkhead::agent {

struct SkeletonDeleter {
    void operator()(::datapath* skeleton) const { ::datapath::destroy(skeleton); }
};
using Skeleton = std::unique_ptr<::datapath, SkeletonDeleter>;

struct LinkDeleter {
    void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using Link = std::unique_ptr<bpf_link, LinkDeleter>; // a pinned link stays attached when this goes

struct RingDeleter {
    void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};
using Ring = std::unique_ptr<ring_buffer, RingDeleter>;

} // namespace bulkhead::agent
