// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/make_maps.h"

#include "agent/datapath/at_once.h"
#include "common/core/log.h"
#include "common/core/unique_fd.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <vector>

namespace bulkhead::agent {

namespace {

// A copy of the object's types in the kernel, for those who look at its maps (bpftool map dump). None is no harm: old
// kernels do not know all kinds of types.
UniqueFd load_types(const bpf_object* object)
{
    __u32 size = 0;
    const void* data = btf__raw_data(bpf_object__btf(object), &size);
    const std::unique_ptr<btf, decltype(&btf__free)> types(data != nullptr ? btf__new(data, size) : nullptr, btf__free);
    if (!types || btf__load_into_kernel(types.get()) != 0)
        return {};
    return UniqueFd(::fcntl(btf__fd(types.get()), F_DUPFD_CLOEXEC, 0));
}

// What the kernel insists on knowing of a storage: that its key is a number, and how large its value is.
Result<UniqueFd> make_storage(const bpf_map* map)
{
    const std::unique_ptr<btf, decltype(&btf__free)> types(btf__new_empty(), btf__free);
    const int number = types ? btf__add_int(types.get(), "int", sizeof(int), BTF_INT_SIGNED) : -ENOMEM;
    const int value = number > 0 ? btf__add_struct(types.get(), "value", bpf_map__value_size(map)) : number;
    if (value < 0 || btf__load_into_kernel(types.get()) != 0)
        return fail_errno(errno, fmt::format("describe the map {}", bpf_map__name(map)));
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = bpf_map__map_flags(map));
    options.btf_fd = static_cast<__u32>(btf__fd(types.get()));
    options.btf_key_type_id = static_cast<__u32>(number);
    options.btf_value_type_id = static_cast<__u32>(value);
    UniqueFd made(::bpf_map_create(bpf_map__type(map), bpf_map__name(map), bpf_map__key_size(map),
                                   bpf_map__value_size(map), 0, &options));
    if (!made)
        return fail_errno(errno, fmt::format("make the map {}", bpf_map__name(map)));
    return made;
}

Result<UniqueFd> make_map(const bpf_map* map, int inner, int types)
{
    if (bpf_map__type(map) == BPF_MAP_TYPE_SK_STORAGE)
        return make_storage(map);
    LIBBPF_OPTS(bpf_map_create_opts, options);
    options.map_flags = bpf_map__map_flags(map);
    options.map_extra = bpf_map__map_extra(map);
    if (inner >= 0)
        options.inner_map_fd = static_cast<__u32>(inner);
    const auto make = [&] {
        return ::bpf_map_create(bpf_map__type(map), bpf_map__name(map), bpf_map__key_size(map),
                                bpf_map__value_size(map), bpf_map__max_entries(map), &options);
    };
    UniqueFd made;
    if (types >= 0 && inner < 0 && bpf_map__btf_value_type_id(map) != 0) {
        options.btf_fd = static_cast<__u32>(types);
        options.btf_key_type_id = bpf_map__btf_key_type_id(map);
        options.btf_value_type_id = bpf_map__btf_value_type_id(map);
        made = UniqueFd(make());
    }
    if (!made) { // some kinds of maps refuse types
        options.btf_fd = options.btf_key_type_id = options.btf_value_type_id = 0;
        made = UniqueFd(make());
    }
    if (!made)
        return fail_errno(errno, fmt::format("make the map {}", bpf_map__name(map)));
    return made;
}

// A section of the object's variables: its one value, which programs only read where the section is of constants.
Status fill_variables(bpf_map* map, int fd)
{
    const __u32 zero = 0;
    std::size_t size = 0;
    const void* value = bpf_map__initial_value(map, &size);
    if (value != nullptr && bpf_map_update_elem(fd, &zero, value, BPF_ANY) != 0)
        return fail_errno(errno, fmt::format("fill {}", bpf_map__name(map)));
    if ((bpf_map__map_flags(map) & BPF_F_RDONLY_PROG) != 0 && bpf_map_freeze(fd) != 0)
        return fail_errno(errno, fmt::format("fix {}", bpf_map__name(map)));
    return {};
}

Result<UniqueFd> make_inner(const bpf_map* map)
{
    const bpf_map* each = bpf_map__inner_map(const_cast<bpf_map*>(map)); // it changes nothing
    if (each == nullptr)
        return UniqueFd();
    return make_map(each, -1, -1);
}

// `fd` is duplicated.
Status give(bpf_map* map, int fd)
{
    if (const int error = bpf_map__reuse_fd(map, fd); error != 0)
        return fail_errno(-error, fmt::format("take the map {}", bpf_map__name(map)));
    return {};
}

} // namespace

// The kernel clears some 50 MiB for them; so they are made by two threads.
Status make_maps(bpf_object* object)
{
    const UniqueFd types = load_types(object);
    std::vector<bpf_map*> wanted;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object) if (!bpf_map__is_internal(map) && bpf_map__fd(map) < 0) wanted.push_back(map);
    std::atomic<std::size_t> next{0};
    const auto make_some = [&]() -> Status {
        for (std::size_t i = next++; i < wanted.size(); i = next++) {
            BULKHEAD_TRY(const UniqueFd inner, make_inner(wanted[i]));
            BULKHEAD_TRY(const UniqueFd made, make_map(wanted[i], inner.get(), types.get()));
            BULKHEAD_CHECK(give(wanted[i], made.get()));
        }
        return {};
    };
    return at_once({make_some, make_some});
}

Status make_variables(bpf_object* object)
{
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object)
    {
        if (!bpf_map__is_internal(map))
            continue;
        BULKHEAD_TRY(const UniqueFd made, make_map(map, -1, -1));
        BULKHEAD_CHECK(fill_variables(map, made.get()));
        BULKHEAD_CHECK(give(map, made.get()));
    }
    return {};
}

} // namespace bulkhead::agent
