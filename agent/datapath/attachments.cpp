// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/attachments.h"

#include "common/core/log.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <optional>
#include <vector>

namespace bulkhead::agent {

namespace {

Hook hook_of(const char* name, const bpf_program* program)
{
    return {name, bpf_program__fd(program), bpf_program__expected_attach_type(program)};
}

// sk_lookup and connect come last: by then the listener table is being kept. What marks conversations as read from
// comes with what enters them.
std::array<Hook, 12> hooks_of(::datapath& skeleton)
{
    auto& programs = skeleton.progs;
    return {{hook_of("post_bind4", programs.bh_post_bind4), hook_of("post_bind6", programs.bh_post_bind6),
             hook_of("sock_release", programs.bh_sock_release), hook_of("sock_ops", programs.bh_sock_ops),
             hook_of("recvmsg4", programs.bh_recvmsg4), hook_of("recvmsg6", programs.bh_recvmsg6),
             hook_of("sk_lookup", programs.bh_sk_lookup), hook_of("sendmsg4", programs.bh_sendmsg4),
             hook_of("sendmsg6", programs.bh_sendmsg6), hook_of("connect4", programs.bh_connect4),
             hook_of("connect6", programs.bh_connect6), hook_of("setsockopt", programs.bh_setsockopt)}};
}

constexpr bpf_attach_type first_to_decide = BPF_CGROUP_UDP4_RECVMSG;

bool is_of_namespace(const Hook& hook)
{
    return hook.type == BPF_SK_LOOKUP;
}

// Runs what it was told in reverse order, unless the whole succeeded.
class Undo {
public:
    Undo() = default;
    Undo(const Undo&) = delete;
    Undo& operator=(const Undo&) = delete;
    ~Undo()
    {
        for (auto step = steps_.rbegin(); step != steps_.rend(); ++step)
            (*step)();
    }
    void add(std::function<void()> step) { steps_.push_back(std::move(step)); }
    void forget() { steps_.clear(); }

private:
    std::vector<std::function<void()>> steps_;
};

struct PinnedLink {
    UniqueFd fd;
    bpf_link_info info{};
};

// Without a descriptor: there is none.
Result<PinnedLink> open_pinned_link(const std::string& path)
{
    PinnedLink link{UniqueFd(bpf_obj_get(path.c_str())), {}};
    if (!link.fd) {
        if (errno == ENOENT)
            return link;
        return fail_errno(errno, fmt::format("open {}", path));
    }
    __u32 size = sizeof(link.info);
    if (bpf_obj_get_info_by_fd(link.fd.get(), &link.info, &size) != 0)
        return fail_errno(errno, fmt::format("inspect {}", path));
    return link;
}

// A link outlives its cgroup or namespace as an empty shell: the kernel then reports 0.
bool is_dead(const Hook& hook, const PinnedLink& link)
{
    return is_of_namespace(hook) ? link.info.netns.netns_ino == 0 : link.info.cgroup.cgroup_id == 0;
}

Status check_place(const Hook& hook, const std::string& path, const PinnedLink& link, const AttachPoint& where)
{
    const bool right = is_of_namespace(hook) ? link.info.netns.netns_ino == where.netns_inode
                                             : link.info.cgroup.cgroup_id == where.cgroup_id;
    if (right)
        return {};
    auto error = fail(ErrorKind::refused, "{}: this instance guards another {}", path,
                      is_of_namespace(hook) ? "network namespace" : "cgroup");
    error.value().mend = fmt::format("start the agent where it ran before, or {}", mend_pins);
    return error;
}

Status replace_program(const Hook& hook, const std::string& path, PinnedLink link, Undo& undo)
{
    // Kept open so that a failure further on can put it back. Needs CAP_SYS_ADMIN; without it there is no way back.
    auto previous = std::make_shared<UniqueFd>(bpf_prog_get_fd_by_id(link.info.prog_id));
    if (bpf_link_update(link.fd.get(), hook.program, nullptr) != 0)
        return fail_errno(errno, fmt::format("replace the program of {}", path));
    auto fd = std::make_shared<UniqueFd>(std::move(link.fd));
    undo.add([fd, previous, path] {
        if (!*previous || bpf_link_update(fd->get(), previous->get(), nullptr) != 0)
            log_error("{}: the previous program could not be put back; the new one stays", path);
    });
    return {};
}

Result<UniqueFd> attach(const Hook& hook, const AttachPoint& where)
{
    UniqueFd link(
        bpf_link_create(hook.program, is_of_namespace(hook) ? where.netns : where.cgroup, hook.type, nullptr));
    if (link)
        return link;
    const int error = errno;
    auto failure = fail_errno(error, fmt::format("attach {}", hook.name));
    if (error == EPERM)
        failure.value().mend =
            "another program is attached to this cgroup without BPF_F_ALLOW_MULTI (bpftool cgroup tree), "
            "or privileges are missing";
    return failure;
}

Status attach_hook(const PinFolder& pins, const Hook& hook, const AttachPoint& where, Undo& undo)
{
    const std::string path = pins.link(hook.name);
    BULKHEAD_TRY(auto pinned, open_pinned_link(path));
    if (pinned.fd && !is_dead(hook, pinned)) {
        BULKHEAD_CHECK(check_place(hook, path, pinned, where));
        return replace_program(hook, path, std::move(pinned), undo);
    }
    BULKHEAD_TRY(const UniqueFd link, attach(hook, where));
    if (pinned.fd && ::unlink(path.c_str()) != 0)
        return fail_errno(errno, fmt::format("remove the dead link {}", path));
    if (bpf_obj_pin(link.get(), path.c_str()) != 0)
        return fail_errno(errno, fmt::format("pin {}", path));
    undo.add([path] { (void)::unlink(path.c_str()); });
    return {};
}

UniqueFd duplicate(int fd)
{
    return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
}

} // namespace

Result<Attachments> Attachments::make(const PinFolder& pins, const AttachPoint& where, ::datapath& skeleton,
                                      std::span<const Hook> more, const std::function<Status()>& halfway)
{
    Undo undo;
    Attachments made(pins, where, duplicate(where.cgroup), duplicate(where.netns));
    const auto own = hooks_of(skeleton);
    std::vector<Hook> hooks(own.begin(), own.end());
    hooks.insert(hooks.end(), more.begin(), more.end());
    for (const Hook& hook : hooks) {
        if (hook.type == first_to_decide)
            BULKHEAD_CHECK(halfway());
        BULKHEAD_CHECK(attach_hook(pins, hook, where, undo));
        BULKHEAD_CHECK(made.hold(hook));
    }
    undo.forget();
    return made;
}

Status Attachments::add(const Hook& hook)
{
    if (holds(hook.name))
        return {};
    Undo undo;
    BULKHEAD_CHECK(attach_hook(pins_, hook, where_, undo));
    BULKHEAD_CHECK(hold(hook));
    undo.forget();
    return {};
}

bool Attachments::holds(std::string_view name) const
{
    return std::any_of(held_.begin(), held_.end(), [name](const Held& held) { return held.hook.name == name; });
}

Status Attachments::hold(const Hook& hook)
{
    UniqueFd link(bpf_obj_get(pins_.link(hook.name).c_str()));
    if (!link)
        return fail_errno(errno, fmt::format("open {}", pins_.link(hook.name)));
    held_.push_back({hook, std::move(link)});
    return {};
}

void Attachments::inspect(std::vector<Tampering>& found)
{
    for (auto& held : held_)
        if (auto tampering = mend(held))
            found.push_back(std::move(*tampering));
}

std::optional<Tampering> Attachments::mend(Held& held) const
{
    const Hook& hook = held.hook;
    PinnedLink link{{}, {}};
    __u32 size = sizeof(link.info);
    if (bpf_obj_get_info_by_fd(held.link.get(), &link.info, &size) != 0)
        return Tampering{fmt::format("link {}", hook.name), fmt::format("it cannot be inspected: errno {}", errno)};
    if (!is_dead(hook, link)) {
        if (link.info.prog_id == program_id(hook.program))
            return std::nullopt;
        Tampering tampering{fmt::format("the program at {} was replaced", hook.name), {}};
        if (bpf_link_update(held.link.get(), hook.program, nullptr) != 0)
            tampering.failure = fmt::format("cannot put it back: errno {}", errno);
        return tampering;
    }
    Tampering tampering{fmt::format("the program at {} was detached", hook.name), {}};
    auto again = attach(hook, where_);
    if (!again) {
        tampering.failure = again.error().message;
        return tampering;
    }
    const std::string path = pins_.link(hook.name);
    (void)pins_.prepare();
    (void)::unlink(path.c_str());
    held.link = std::move(*again); // before the pin: it acts whatever becomes of that
    if (bpf_obj_pin(held.link.get(), path.c_str()) != 0)
        tampering.failure = fmt::format("it is attached again, but not pinned: errno {}", errno);
    return tampering;
}

std::vector<PinnedObject> Attachments::pinned() const
{
    std::vector<PinnedObject> objects;
    for (const auto& held : held_)
        objects.push_back({pins_.link(held.hook.name), held.link.get()});
    return objects;
}

} // namespace bulkhead::agent
