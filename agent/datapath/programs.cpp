// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/programs.h"

#include "agent/datapath/kernel_constants.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>

#include <cerrno>
#include <cstdarg>
#include <cstdio>

namespace bulkhead::agent {

namespace {

// libbpf reports through one process-wide callback; what it warns of during a load becomes part of that load's error.
thread_local std::string* load_warnings = nullptr;
constexpr std::size_t max_warnings = 2048;

int on_libbpf_message(libbpf_print_level level, const char* format, va_list arguments)
{
    char text[1024];
    const int written = std::vsnprintf(text, sizeof(text), format, arguments);
    if (written < 0)
        return written;
    std::string_view line(text);
    while (line.ends_with('\n'))
        line.remove_suffix(1);
    log_debug("{}", line);
    if (level == LIBBPF_WARN && load_warnings != nullptr && load_warnings->size() < max_warnings)
        load_warnings->append(load_warnings->empty() ? "" : "; ").append(line);
    return written;
}

class WarningsOfThisLoad {
public:
    WarningsOfThisLoad() { load_warnings = &text_; }
    ~WarningsOfThisLoad() { load_warnings = nullptr; }
    WarningsOfThisLoad(const WarningsOfThisLoad&) = delete;
    WarningsOfThisLoad& operator=(const WarningsOfThisLoad&) = delete;

    // The first line says which program or map; a verifier's log that may follow is for the debug log.
    [[nodiscard]] std::string first() const { return text_.substr(0, text_.find('\n')); }

private:
    std::string text_;
};

// Of a function that is static by its debug information, the verifier follows each call with what the caller knows. By
// itself it would not prove one that takes pointers before Linux 5.12 (btf_check_func_arg_match).
void follow_each_call(const bpf_object* object)
{
    const btf* types = bpf_object__btf(object);
    for (__u32 id = 1; id < btf__type_cnt(types); ++id) {
        const btf_type* type = btf__type_by_id(types, id);
        if (!btf_is_func(type) || btf_vlen(type) != BTF_FUNC_GLOBAL)
            continue;
        const btf_type* prototype = btf__type_by_id(types, type->type);
        const btf_param* parameters = btf_params(prototype);
        bool takes_pointer = false;
        for (__u16 i = 0; i < btf_vlen(prototype); ++i)
            takes_pointer |= btf_is_ptr(btf__type_by_id(types, parameters[i].type));
        // Programs take a pointer too, their context; they are called by nobody.
        if (takes_pointer &&
            bpf_object__find_program_by_name(object, btf__name_by_offset(types, type->name_off)) == nullptr)
            const_cast<btf_type*>(type)->info = type->info & ~0xffffU; // BTF_FUNC_STATIC
    }
}

} // namespace

void log_libbpf_messages()
{
    libbpf_set_print(on_libbpf_message);
}

Result<LoadedPrograms> load_programs(const PinFolder& pins, const ProgramSettings& settings)
{
    log_libbpf_messages(); // before the probes, which are meant to fail
    LoadedPrograms loaded;
    if (!settings.only_oldest_features)
        loaded.features = probe_kernel_features();
    const WarningsOfThisLoad warnings;
    loaded.skeleton.reset(::datapath::open());
    if (!loaded.skeleton)
        return fail_errno(errno, "open the kernel programs");
    loaded.skeleton->rodata->scope_is_root = settings.scope_is_root ? 1 : 0;
    loaded.skeleton->rodata->guarded_netns = settings.guarded_netns;
    loaded.skeleton->rodata->scope_cgroup = settings.scope_cgroup;
    loaded.skeleton->rodata->scope_level = settings.scope_level;
    loaded.skeleton->rodata->guard_namespace = settings.guard_namespace ? 1 : 0;
    const auto bits = socket_bits_for_foreign_sources();
    loaded.skeleton->rodata->foreign_source_bits = bits.any;
    loaded.skeleton->rodata->transparent_bit = bits.transparent;
    loaded.skeleton->rodata->refuse_silently = settings.refuse_silently ? 1 : 0;
    loaded.skeleton->rodata->cookies_in_walk = loaded.features.cookies_in_walk ? 1 : 0;
    loaded.skeleton->rodata->follow_each_call = loaded.features.pointer_arguments ? 0 : 1;
    if (!loaded.features.pointer_arguments)
        follow_each_call(loaded.skeleton->obj);

    BULKHEAD_TRY(loaded.maps, adopt_pinned_maps(pins, loaded.skeleton->obj));
    if (const int error = ::datapath::load(loaded.skeleton.get()); error != 0) {
        auto failure = fail_errno(-error, "load the kernel programs");
        failure.value().message += fmt::format(" ({})", warnings.first());
        failure.value().mend = "--log-level debug shows the kernel's own words";
        return failure;
    }
    if (loaded.maps.kind != PinnedMaps::Kind::adopted) {
        // Zeroes would mean "slot 0 is in force"; nothing is attached yet that could read them.
        const bh_control nothing{BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, loaded.maps.generation};
        const __u32 zero = 0;
        if (bpf_map_update_elem(bpf_map__fd(loaded.skeleton->maps.bh_control), &zero, &nothing, BPF_ANY) != 0)
            return fail_errno(errno, "write the first control word");
    }
    return loaded;
}

} // namespace bulkhead::agent
