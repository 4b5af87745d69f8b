// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/programs.h"

#include "agent/datapath/at_once.h"
#include "agent/datapath/kernel_constants.h"
#include "agent/datapath/libbpf_messages.h"
#include "agent/datapath/make_maps.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

namespace bulkhead::agent {

namespace {

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

// Before anybody has asked for the types as bytes: libbpf keeps what it made of them then, and loads that.
Result<Skeleton> open_objects(bool follow)
{
    Skeleton opened(::datapath::open());
    if (!opened)
        return fail_errno(errno, "open the kernel programs");
    if (follow)
        follow_each_call(opened->obj);
    return opened;
}

Error load_failure(int error, const LibbpfWarnings& warnings)
{
    auto failure = fail_errno(-error, "load the kernel programs").value();
    if (const auto summary = warnings.summary(); !summary.empty())
        failure.message += fmt::format(" ({})", summary);
    failure.mend = "--log-level debug shows the kernel's own words";
    return failure;
}

// Half of a start's work for the verifier is spared by leaving these out.
constexpr std::string_view bare_guards[] = {"bh_guard_in_bare", "bh_guard_out_bare"};
constexpr std::string_view elsewhere[] = {"bh_sk_lookup_elsewhere"};
constexpr std::string_view early_drop[] = {"bh_quarantine_in"};
constexpr std::string_view ingress[] = {"bh_ingress"};

template <typename Names>
bool is_one_of(const Names& names, std::string_view program)
{
    return std::find(std::begin(names), std::end(names), program) != std::end(names);
}

bool is_spare(std::string_view program)
{
    return is_one_of(bare_guards, program) || is_one_of(elsewhere, program) || is_one_of(early_drop, program) ||
           is_one_of(ingress, program);
}

// Half of the rest, by the time that the verifier takes.
bool is_of_second_team(std::string_view program)
{
    return (program.starts_with("bh_guard_") || program == "bh_sendmsg6" || program == "bh_sk_lookup") &&
           !is_spare(program);
}

using IsIn = std::function<bool(std::string_view)>;

// Loads the programs of one team; the maps are there.
Status load_programs_of(::datapath& team, const IsIn& is_in)
{
    const LibbpfWarnings warnings;
    for (int i = 0; i < team.skeleton->prog_cnt; ++i)
        bpf_program__set_autoload(*team.skeleton->progs[i].prog, is_in(team.skeleton->progs[i].name));
    if (const int error = ::datapath::load(&team); error != 0)
        return tl::unexpected(load_failure(error, warnings));
    return {};
}

Result<Skeleton> open_team(const ::datapath& maps, bool follow)
{
    BULKHEAD_TRY(Skeleton team, open_objects(follow));
    for (int i = 0; i < maps.skeleton->map_cnt; ++i)
        if (const int error = bpf_map__reuse_fd(*team->skeleton->maps[i].map, bpf_map__fd(*maps.skeleton->maps[i].map));
            error != 0)
            return fail_errno(-error, fmt::format("share {}", maps.skeleton->maps[i].name));
    return team;
}

// The programs of `skeleton` that are in a team become those of the team, which has to outlive their use.
void take_over(::datapath& skeleton, const ::datapath& team, const IsIn& is_in)
{
    for (int i = 0; i < skeleton.skeleton->prog_cnt; ++i) {
        const auto& program = skeleton.skeleton->progs[i];
        if (is_in(program.name))
            *program.prog = *team.skeleton->progs[i].prog;
    }
}

// Each waits for a grace period of RCU, as every change of a map of maps does.
std::vector<std::function<Status()>> put_in_denial_tables(const ::datapath& skeleton)
{
    const auto put = [outer = bpf_map__fd(skeleton.maps.bh_denials)](__u32 turn, const bpf_map* table) {
        return [outer, turn, inner = bpf_map__fd(table)]() -> Status {
            if (bpf_map_update_elem(outer, &turn, &inner, BPF_ANY) != 0)
                return fail_errno(errno, "put the tables of denials in their place");
            return {};
        };
    };
    return {put(0, skeleton.maps.bh_denials_even), put(1, skeleton.maps.bh_denials_odd)};
}

// libbpf loads an object's programs one by one; objects that share nothing but maps may be loaded at once. So half of
// the programs are those of a second object over the maps of the first. `besides` is done meanwhile.
Status load_in_teams(Skeleton& skeleton, bool follow, std::vector<std::function<Status()>> besides)
{
    const bool two = std::thread::hardware_concurrency() > 1;
    if (two) {
        BULKHEAD_TRY(Skeleton second, open_team(*skeleton, follow));
        besides.emplace_back([&team = *second] { return load_programs_of(team, is_of_second_team); });
        skeleton.get_deleter().teams.emplace_back(std::move(second));
    }
    besides.emplace_back([&skeleton, two] {
        return load_programs_of(*skeleton, [two](std::string_view program) {
            return !is_spare(program) && !(two && is_of_second_team(program));
        });
    });
    BULKHEAD_CHECK(at_once(besides));
    if (two)
        take_over(*skeleton, *skeleton.get_deleter().teams.front(), is_of_second_team);
    return {};
}

// Which nobody else knows. What is there is used on: packets are on their way.
Status make_mark_secret(const ::datapath& skeleton)
{
    const int map = bpf_map__fd(skeleton.maps.bh_mark_secret);
    const std::uint32_t zero = 0;
    bh_mark_secret secret{};
    if (bpf_map_lookup_elem(map, &zero, &secret) == 0 && (secret.word[0] | secret.word[1]) != 0)
        return {};
    std::random_device chance;
    for (auto& word : secret.word)
        word = std::uint64_t{chance()} << 32 | chance();
    if (bpf_map_update_elem(map, &zero, &secret, BPF_ANY) != 0)
        return fail_errno(errno, "keep the secret of the guard's marks");
    return {};
}

Result<LoadedPrograms> load_with(const KernelFeatures& features, const PinFolder& pins, const ProgramSettings& settings)
{
    LoadedPrograms loaded;
    loaded.features = features;
    BULKHEAD_TRY(loaded.skeleton, open_objects(!features.pointer_arguments));
    loaded.skeleton->rodata->scope_is_root = settings.scope_is_root ? 1 : 0;
    loaded.skeleton->rodata->guarded_netns = settings.guarded_netns;
    loaded.skeleton->rodata->scope_cgroup = settings.scope_cgroup;
    loaded.skeleton->rodata->scope_level = settings.scope_level;
    loaded.skeleton->rodata->guard_namespace = settings.guard_namespace ? 1 : 0;
    loaded.skeleton->rodata->refuse_silently = settings.refuse_silently ? 1 : 0;
    loaded.skeleton->rodata->cookies_in_walk = features.cookies_in_walk ? 1 : 0;
    loaded.skeleton->rodata->follow_each_call = features.pointer_arguments ? 0 : 1;

    BULKHEAD_TRY(loaded.maps, adopt_pinned_maps(pins, loaded.skeleton->obj));
    KernelConstants kernel;
    BULKHEAD_CHECK(at_once({[object = loaded.skeleton->obj] { return make_maps(object); },
                            [&kernel]() -> Status {
                                kernel = find_kernel_constants();
                                return {};
                            }}));
    loaded.skeleton->rodata->foreign_source_bits = kernel.foreign_source_bits;
    loaded.skeleton->rodata->transparent_bit = kernel.transparent_bit;
    loaded.skeleton->rodata->preempt_count_from_runqueues = kernel.preempt_count_from_runqueues;
    BULKHEAD_CHECK(make_mark_secret(*loaded.skeleton));
    if (!kernel.questions_are_told_apart)
        log_warning("this kernel does not say whether a packet or a process asks for a socket: what a process asks "
                    "sock_diag(7) counts as a packet that arrives, and no process is named for what raw sockets send");
    BULKHEAD_CHECK(make_variables(loaded.skeleton->obj));
    // Also where they are, or were: whatever was done to the table of tables is mended.
    BULKHEAD_CHECK(load_in_teams(loaded.skeleton, !features.pointer_arguments, put_in_denial_tables(*loaded.skeleton)));
    const auto spare = [&](auto& names) {
        return std::make_shared<SparePrograms>(*loaded.skeleton, std::vector(std::begin(names), std::end(names)),
                                               !features.pointer_arguments);
    };
    loaded.bare_guards = spare(bare_guards);
    loaded.elsewhere = spare(elsewhere);
    loaded.early_drop = spare(early_drop);
    loaded.ingress = spare(ingress);
    if (loaded.maps.kind != PinnedMaps::Kind::adopted) {
        // Zeroes would mean "slot 0 is in force"; nothing is attached yet that could read them.
        const bh_control nothing{BH_SLOT_NONE, BH_SLOT_NONE, BH_ABI_VERSION, 0, loaded.maps.generation};
        const __u32 zero = 0;
        if (bpf_map_update_elem(bpf_map__fd(loaded.skeleton->maps.bh_control), &zero, &nothing, BPF_ANY) != 0)
            return fail_errno(errno, "write the first control word");
    }
    return loaded;
}

} // namespace

Status SparePrograms::load()
{
    if (!programs_.empty())
        return {};
    const auto now = std::chrono::steady_clock::now();
    if (failure_ && now < again_at_)
        return tl::unexpected(*failure_);
    const auto loaded = load_anew();
    if (loaded)
        return {};
    failure_ = loaded.error();
    again_at_ = now + pause_;
    pause_ = std::min(2 * pause_, longest_pause);
    return loaded;
}

Status SparePrograms::load_anew()
{
    BULKHEAD_TRY(const Skeleton team, open_team(maps_, follow_each_call_));
    BULKHEAD_CHECK(load_programs_of(*team, [this](std::string_view program) { return is_one_of(names_, program); }));
    std::vector<UniqueFd> programs;
    for (const auto name : names_) {
        const bpf_program* loaded = bpf_object__find_program_by_name(team->obj, std::string(name).c_str());
        programs.emplace_back(::fcntl(bpf_program__fd(loaded), F_DUPFD_CLOEXEC, 0));
        if (!programs.back())
            return fail_errno(errno, fmt::format("keep the program {}", name));
    }
    programs_ = std::move(programs);
    return {};
}

int SparePrograms::program(std::string_view name) const
{
    for (std::size_t i = 0; i < programs_.size(); ++i)
        if (names_[i] == name)
            return programs_[i].get();
    return -1;
}

Result<LoadedPrograms> load_programs(const PinFolder& pins, const ProgramSettings& settings)
{
    log_libbpf_messages();
    if (settings.only_oldest_features)
        return load_with({}, pins, settings);
    // What a kernel has is found out by trying. Its version only says what to try first: a probe is for nothing on a
    // new one, and on an old one it is a small part of what a whole load takes to fail.
    if (kernel_is_older_than(5, 12))
        return load_with(probe_kernel_features(), pins, settings);
    auto loaded = load_with(KernelFeatures::all(), pins, settings);
    if (loaded)
        return loaded;
    const auto features = probe_kernel_features();
    if (features == KernelFeatures::all())
        return loaded;
    log_debug("not with all features: {}", loaded.error().message);
    return load_with(features, pins, settings);
}

} // namespace bulkhead::agent
