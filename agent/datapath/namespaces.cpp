// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/namespaces.h"

#include "agent/datapath/in_namespace.h"
#include "common/core/clock.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <utility>
#include <vector>

namespace bulkhead::agent {

namespace {

constexpr std::string_view pin_prefix = "sk_lookup_";
constexpr std::chrono::seconds kept_at_most{30}; // by whoever never judges them

bpf_link_info info_of(const UniqueFd& link)
{
    bpf_link_info info{};
    __u32 size = sizeof(info);
    return bpf_obj_get_info_by_fd(link.get(), &info, &size) == 0 ? info : bpf_link_info{};
}

// Where the link acts; 0: its namespace is gone, or somebody has detached it.
std::uint32_t place_of(const UniqueFd& link)
{
    return info_of(link).netns.netns_ino;
}

bpf_insn instruction(int code, int to, int from, int offset, std::int32_t constant)
{
    bpf_insn made{};
    made.code = static_cast<__u8>(code);
    made.dst_reg = static_cast<__u8>(to & 0xf);
    made.src_reg = static_cast<__u8>(from & 0xf);
    made.off = static_cast<__s16>(offset);
    made.imm = constant;
    return made;
}

// *bpf_map_lookup_elem(bh_gate, 0) = inode; bpf_tail_call(context, bh_gate_program, 0); return SK_PASS;
std::array<bpf_insn, 16> gate_code(std::uint32_t inode, int gate, int program)
{
    constexpr int load_map = BPF_LD | BPF_DW | BPF_IMM;
    return {instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0),
            instruction(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
            instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
            instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4),
            instruction(load_map, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, gate),
            instruction(0, 0, 0, 0, 0),
            instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
            instruction(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 6, 0),
            instruction(BPF_ST | BPF_MEM | BPF_W, BPF_REG_0, 0, 0, static_cast<std::int32_t>(inode)),
            instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, BPF_REG_6, 0, 0),
            instruction(load_map, BPF_REG_2, BPF_PSEUDO_MAP_FD, 0, program),
            instruction(0, 0, 0, 0, 0),
            instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, 0),
            instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_tail_call),
            instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, SK_PASS),
            instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)};
}

// 0 where the kernel (before 5.14) does not tell.
std::uint64_t cookie_of(int netns)
{
    std::uint64_t cookie = 0;
    (void)in_namespace(netns, [&]() -> Status {
        const UniqueFd any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        socklen_t size = sizeof(cookie);
        if (!any || ::getsockopt(any.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size) != 0)
            cookie = 0;
        return {};
    });
    return cookie;
}

template <typename Key, typename Wanted>
void delete_keys(int map, const Wanted& wanted)
{
    std::vector<Key> stale;
    Key key{}, next{};
    for (const Key* previous = nullptr; bpf_map_get_next_key(map, previous, &next) == 0; previous = &key) {
        key = next;
        if (wanted(key))
            stale.push_back(key);
    }
    for (const Key& one : stale)
        (void)bpf_map_delete_elem(map, &one);
}

} // namespace

Namespaces::Namespaces(PinFolder pins, ::datapath& skeleton, std::shared_ptr<SparePrograms> elsewhere,
                       int guarded_netns, std::uint32_t guarded_inode, std::string cgroup)
    : pins_(std::move(pins)), skeleton_(&skeleton), elsewhere_(std::move(elsewhere)), guarded_netns_(guarded_netns),
      own_inode_(guarded_inode), sweep_(std::move(cgroup)), own_addresses_(skeleton)
{
    if (skeleton.rodata->scope_is_root)
        mounted_.emplace();
}

std::string Namespaces::pin_of(std::uint32_t inode) const
{
    return pins_.link(fmt::format("{}{}", pin_prefix, inode));
}

// Assembled here: a compiled program would be relocated against the kernel's types once more, which takes longer than a
// container takes to start.
Result<UniqueFd> Namespaces::make_gate(std::uint32_t inode) const
{
    const auto code =
        gate_code(inode, bpf_map__fd(skeleton_->maps.bh_gate), bpf_map__fd(skeleton_->maps.bh_gate_program));
    LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_SK_LOOKUP);
    UniqueFd program(
        bpf_prog_load(BPF_PROG_TYPE_SK_LOOKUP, "bh_gate", "Dual BSD/GPL", code.data(), code.size(), &options));
    if (!program)
        return fail_errno(errno, "load the gate of a network namespace");
    return program;
}

Status Namespaces::open_pinned()
{
    const auto present = look_everywhere(at_a_start);
    std::set<std::uint32_t> dead;
    for (const std::string& name : pins_.links()) {
        std::uint32_t inode = 0;
        if (!name.starts_with(pin_prefix))
            continue;
        std::from_chars(name.data() + pin_prefix.size(), name.data() + name.size(), inode);
        UniqueFd link(bpf_obj_get(pins_.link(name).c_str()));
        if (link && inode != 0 && place_of(link) == inode) {
            const auto holder = present.find(inode);
            followed_[inode] = {std::move(link), holder != present.end() ? holder->second : NamespaceHolder{}, 0, {}};
            continue;
        }
        (void)::unlink(pins_.link(name).c_str());
        dead.insert(inode);
    }
    forget_rows(dead, {});
    recall_addresses();
    return followed_.empty() ? Status() : elsewhere_->load();
}

// As it was told before us: a namespace that only a thread or a socket holds is not reached by who starts.
void Namespaces::recall_addresses()
{
    for (auto& [inode, addresses] : own_addresses_.elsewhere())
        if (followed_.contains(inode))
            addresses_.try_emplace(inode, std::move(addresses));
}

void Namespaces::know_addresses()
{
    recall_addresses();
    follow_addresses(Slice(max_steps, at_a_start));
}

bool Namespaces::any_gate_of_another() const
{
    return std::any_of(followed_.begin(), followed_.end(), [](const auto& one) { return one.second.program == 0; });
}

Status Namespaces::take_over()
{
    if (!followed_.empty())
        BULKHEAD_CHECK(give_program());
    Status first_failure;
    for (auto& [inode, followed] : followed_) {
        if (place_of(followed.link) != inode)
            continue; // it has ended since, and is forgotten by the next follow()
        auto changed = take_over(inode, followed);
        if (!changed && first_failure)
            first_failure = std::move(changed);
    }
    return first_failure;
}

Status Namespaces::take_over(std::uint32_t inode, Followed& followed)
{
    BULKHEAD_CHECK(change_gate(inode, followed));
    const UniqueFd netns = open_namespace(inode, followed.holder);
    const auto cookie = netns ? cookie_of(netns.get()) : 0;
    bh_namespace row{};
    // Also where a bind told of it, as of one that is not followed, when our doors were there and its gate was not; and
    // where the row is that of a namespace before, which an agent did not live to change.
    if (bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.bh_namespaces), &inode, &row) == 0 && row.followed != 0 &&
        (cookie == 0 || row.cookie == cookie))
        return {};
    return enter_as_followed(inode, cookie);
}

Status Namespaces::give_program()
{
    const std::uint32_t zero = 0;
    BULKHEAD_CHECK(elsewhere_->load());
    const int program = elsewhere_->program("bh_sk_lookup_elsewhere");
    if (bpf_map_update_elem(bpf_map__fd(skeleton_->maps.bh_gate_program), &zero, &program, BPF_ANY) != 0)
        return fail_errno(errno, "give the gates of network namespaces their program");
    program_ = program_id(program);
    return {};
}

Status Namespaces::change_gate(std::uint32_t inode, Followed& followed)
{
    if (program_ == 0) // a gate that calls nothing would stand open
        BULKHEAD_CHECK(give_program());
    BULKHEAD_TRY(const UniqueFd gate, make_gate(inode));
    if (bpf_link_update(followed.link.get(), gate.get(), nullptr) != 0)
        return fail_errno(errno, fmt::format("replace the program of {}", pin_of(inode)));
    followed.program = program_id(gate.get());
    return {};
}

Status Namespaces::attach(std::uint32_t inode, const NamespaceHolder& holder, int netns)
{
    if (program_ == 0)
        BULKHEAD_CHECK(give_program());
    BULKHEAD_TRY(const UniqueFd gate, make_gate(inode));
    UniqueFd link(bpf_link_create(gate.get(), netns, BPF_SK_LOOKUP, nullptr));
    if (!link)
        return fail_errno(errno, "attach sk_lookup");
    (void)::unlink(pin_of(inode).c_str()); // of a namespace before that had this number
    if (bpf_obj_pin(link.get(), pin_of(inode).c_str()) != 0)
        return fail_errno(errno, fmt::format("pin {}", pin_of(inode)));
    BULKHEAD_CHECK(enter_as_followed(inode, cookie_of(netns)));
    followed_[inode] = {std::move(link), holder, program_id(gate.get()), user_behind_namespace(netns)};
    kept_[inode] = {UniqueFd(::fcntl(netns, F_DUPFD_CLOEXEC, 0)), system_clock().monotonic()};
    return {};
}

void Namespaces::judged(const std::set<std::uint32_t>& namespaces)
{
    for (auto& [inode, kept] : kept_)
        if (namespaces.contains(inode))
            kept.judged = true;
}

// A descriptor keeps its namespace from ending, and with it devices and their names.
void Namespaces::let_go()
{
    const auto now = system_clock().monotonic();
    std::erase_if(kept_, [now](const auto& one) { return one.second.judged || now - one.second.since > kept_at_most; });
}

Status Namespaces::enter_as_followed(std::uint32_t inode, std::uint64_t cookie) const
{
    bh_namespace row{};
    row.cookie = cookie;
    row.followed = 1;
    const auto write = [&] {
        return bpf_map_update_elem(bpf_map__fd(skeleton_->maps.bh_namespaces), &inode, &row, BPF_ANY) == 0;
    };
    if (write())
        return {};
    forget_told(std::chrono::nanoseconds(0)); // anybody can fill it with what is told of
    if (!write())
        return fail_errno(errno, "write the table of namespaces");
    return {};
}

// It could not be opened when its gate was taken over, or somebody who hears there told of it in the moment in which it
// was entered.
void Namespaces::know_cookie(std::uint32_t inode, int netns)
{
    bh_namespace row{};
    const bool entered =
        bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.bh_namespaces), &inode, &row) == 0 && row.followed != 0;
    if (entered && row.cookie != 0)
        return;
    // While the descriptor is open nobody else gets the number: where the gate stands in it, it is that one.
    const auto cookie = cookie_of(netns);
    if ((cookie != 0 || !entered) && place_of(followed_.at(inode).link) == inode)
        note_trouble(enter_as_followed(inode, cookie), fmt::format("network namespace {}", inode));
}

// Of those that are present, and of all others if these are known to be absent. What has got the number of a dead one
// may be known only by what the kernel has told of it.
void Namespaces::forget_dead(const Present& present, bool others_too)
{
    std::set<std::uint32_t> dead, reborn;
    for (auto it = followed_.begin(); it != followed_.end();) {
        const std::uint32_t inode = it->first;
        const bool here = present.contains(inode);
        if ((!here && !others_too) || place_of(it->second.link) == inode) {
            ++it;
            continue;
        }
        look_for_holder(inode, it->second); // it may be that it was detached, and nobody is where he was
        it = followed_.erase(it);
        (void)::unlink(pin_of(inode).c_str());
        dead.insert(inode);
        if (here || was_told_of(inode))
            reborn.insert(inode);
    }
    forget_rows(dead, reborn);
}

bool Namespaces::was_told_of(std::uint32_t inode) const
{
    bh_namespace row{};
    return bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.bh_namespaces), &inode, &row) == 0 && row.followed == 0;
}

// Listeners leave with their sockets, without fail; in a namespace that has got the number again they are new ones.
// Conversations would go on in it. Once for all that are dead: the tables may be full.
void Namespaces::forget_rows(const std::set<std::uint32_t>& dead, const std::set<std::uint32_t>& reborn) const
{
    if (dead.empty())
        return;
    auto& maps = skeleton_->maps;
    const auto is_old = [&](const auto& key) { return dead.contains(key.netns) && !reborn.contains(key.netns); };
    forget_conversations(dead);
    delete_keys<bh_listener_key>(bpf_map__fd(maps.bh_listeners), is_old);
    for (const std::uint32_t inode : dead)
        if (!reborn.contains(inode))
            (void)bpf_map_delete_elem(bpf_map__fd(maps.bh_namespaces), &inode);
}

void Namespaces::forget_conversations(const std::set<std::uint32_t>& namespaces) const
{
    for (const bpf_map* map : {skeleton_->maps.bh_udp_out, skeleton_->maps.bh_udp_in})
        delete_keys<bh_udp_flow_key>(bpf_map__fd(map), [&](const auto& key) { return namespaces.contains(key.netns); });
}

// Of namespaces that were told of and are not followed: who hears there again is told of again.
void Namespaces::forget_told(std::chrono::nanoseconds older_than) const
{
    const int map = bpf_map__fd(skeleton_->maps.bh_namespaces);
    const auto oldest = static_cast<std::uint64_t>((system_clock().monotonic() - older_than).count());
    delete_keys<std::uint32_t>(map, [&](std::uint32_t inode) {
        bh_namespace row{};
        return !followed_.contains(inode) && bpf_map_lookup_elem(map, &inode, &row) == 0 && row.told_ns < oldest;
    });
}

void Namespaces::told(std::string what, const Status& done)
{
    mended_.push_back({std::move(what), done ? std::string() : done.error().message});
}

void Namespaces::mend()
{
    mend_program();
    for (auto& [inode, followed] : followed_)
        mend_gate(inode, followed);
}

void Namespaces::mend_program()
{
    const __u32 zero = 0;
    __u32 there = 0;
    (void)bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.bh_gate_program), &zero, &there);
    if (program_ == 0 || there == program_)
        return;
    told("the program that the gates of network namespaces call was taken away", give_program());
    for (const auto& [inode, followed] : followed_)
        stood_open_.insert(inode);
}

void Namespaces::mend_gate(std::uint32_t inode, Followed& followed)
{
    if (followed.program == 0) { // its gate is the predecessor's yet
        if (const auto changed = leaves_gates_ ? Status() : take_over(inode, followed); !changed)
            log_debug("{}", changed.error().message);
        return;
    }
    const bpf_link_info info = info_of(followed.link);
    if (info.netns.netns_ino == inode) {
        if (info.prog_id == followed.program)
            return;
        told(fmt::format("the program in network namespace {} was replaced", inode), change_gate(inode, followed));
        stood_open_.insert(inode);
        return;
    }
    const NamespaceHolder holder = followed.holder;
    const UniqueFd netns = open_namespace(inode, holder);
    if (!netns || !is_row_of(inode, netns.get()))
        return; // it has ended
    told(fmt::format("the program in network namespace {} was detached", inode), attach(inode, holder, netns.get()));
    stood_open_.insert(inode);
}

// Whether the namespace is the one that is followed, and not another that has got its number.
bool Namespaces::is_row_of(std::uint32_t inode, int netns) const
{
    bh_namespace row{};
    return bpf_map_lookup_elem(bpf_map__fd(skeleton_->maps.bh_namespaces), &inode, &row) == 0 && row.followed != 0 &&
           row.cookie == cookie_of(netns);
}

void Namespaces::inspect(std::vector<Tampering>& found)
{
    if (program_ == 0)
        if (const auto given = give_program(); !given) // the first namespace tries again, and says so
            log_debug("{}", given.error().message);
    mend();
    for (auto& one : std::exchange(mended_, {}))
        found.push_back(std::move(one));
}

std::vector<PinnedObject> Namespaces::pinned() const
{
    std::vector<PinnedObject> objects;
    for (const auto& [inode, followed] : followed_)
        if (place_of(followed.link) == inode) // else it is about to be forgotten, with its pin
            objects.push_back({pin_of(inode), followed.link.get()});
    return objects;
}

UniqueFd Namespaces::open(std::uint32_t inode) const
{
    const auto known = followed_.find(inode);
    if (known == followed_.end())
        return {};
    if (auto held = open_namespace(inode, known->second.holder))
        return held;
    const auto kept = kept_.find(inode);
    return kept == kept_.end() ? UniqueFd() : UniqueFd(::fcntl(kept->second.netns.get(), F_DUPFD_CLOEXEC, 0));
}

void Namespaces::visit(const std::function<bool(std::uint32_t)>& wanted,
                       const std::function<void(std::uint32_t, int)>& use) const
{
    for (const auto& [inode, followed] : followed_)
        if (wanted(inode))
            if (const UniqueFd netns = open(inode))
                use(inode, netns.get());
}

std::vector<std::uint32_t> Namespaces::inodes() const
{
    std::vector<std::uint32_t> inodes;
    for (const auto& [inode, followed] : followed_)
        inodes.push_back(inode);
    return inodes;
}

} // namespace bulkhead::agent
