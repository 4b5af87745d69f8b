// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/kernel_constants.h"

#include <bpf/btf.h>

#include <memory>
#include <string_view>

namespace bulkhead::agent {

ForeignSourceBits socket_bits_for_foreign_sources()
{
    const std::unique_ptr<btf, decltype(&btf__free)> kernel(btf__load_vmlinux_btf(), btf__free);
    ForeignSourceBits bits;
    if (!kernel)
        return bits;
    for (__u32 id = 1; id < btf__type_cnt(kernel.get()); ++id) {
        const btf_type* type = btf__type_by_id(kernel.get(), id);
        if (!btf_is_enum(type) || type->name_off != 0)
            continue;
        const struct btf_enum* enumerators = btf_enum(type);
        for (__u16 i = 0; i < btf_vlen(type); ++i) {
            const std::string_view name = btf__name_by_offset(kernel.get(), enumerators[i].name_off);
            if (name == "INET_FLAGS_FREEBIND" || name == "INET_FLAGS_TRANSPARENT")
                bits.any |= std::uint64_t{1} << enumerators[i].val;
            if (name == "INET_FLAGS_TRANSPARENT")
                bits.transparent = std::uint64_t{1} << enumerators[i].val;
        }
    }
    return bits;
}

} // namespace bulkhead::agent
