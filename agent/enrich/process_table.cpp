// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/cgroup_tree.h"
#include "agent/enrich/enrich.h"
#include "agent/enrich/proc_files.h"
#include "agent/enrich/user_names.h"
#include "agent/enrich/utf8.h"
#include "common/core/clock.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <list>
#include <map>
#include <unordered_map>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_bytes = 1U << 20; // of processes: some thousand of those that had to do with the network last
constexpr std::size_t max_programs = 4096;
constexpr std::size_t most_of_name = 1024; // bytes of a path that are in a record
// For reading the mounts of users' processes, of which each may have a hundred thousand.
constexpr TimeBudget::Limits for_mounts{std::chrono::milliseconds(100), std::chrono::milliseconds(400),
                                        std::chrono::seconds(10)};
constexpr TimeBudget::Limits for_mounts_of_root{std::chrono::seconds(1), std::chrono::seconds(1),
                                                std::chrono::seconds(10)};

// A process that was read from /proc. exec() changes the program but neither pid nor start time, so the program belongs
// to what is remembered, too.
struct Seen {
    std::uint32_t pid = 0;
    ProcStat stat;
    ProcExecutable executable;
    std::string comm, command_line, cgroup, parent_exe;
    std::optional<std::uint32_t> login_uid;

    // What it takes in memory, the two tables that it is in counted.
    [[nodiscard]] std::size_t bytes() const
    {
        constexpr std::size_t tables = 128;
        return sizeof(Seen) + tables + comm.capacity() + command_line.capacity() + cgroup.capacity() +
               parent_exe.capacity() + executable.path.capacity();
    }
};

// Where a program file was last seen running from: names the program of a process that died before it was looked at.
struct Program {
    std::string path;
    bool own_mounts = false; // seen in our mount namespace, so the path can be checked
};
using ProgramKey = std::pair<std::uint32_t, std::uint64_t>; // device, inode

std::string comm_of(const bh_subject& subject)
{
    return {subject.comm, ::strnlen(subject.comm, sizeof(subject.comm))};
}

// 0: the door could not read it.
bool runs(const Seen& seen, const bh_subject& subject)
{
    return subject.exe_inode == 0 ||
           (seen.executable.file.inode == subject.exe_inode && seen.executable.file.device == subject.exe_device);
}

class ProcProcessTable final : public ProcessTable {
public:
    explicit ProcProcessTable(const ProcessTableOptions& options)
        : files_(options.proc), users_(system_clock()), cgroups_(cgroup_mount_of(options.cgroup_root), system_clock()),
          own_mounts_(files_.name_space(static_cast<std::uint32_t>(::getpid()), "mnt")),
          own_users_(files_.name_space(static_cast<std::uint32_t>(::getpid()), "user"))
    {}

    v1::Process describe(const bh_subject& subject) override;
    policy::ProcessFacts facts(const bh_subject& subject) override;

private:
    const Seen* look(const bh_subject& subject);
    Seen read(const bh_subject& subject, const ProcStat& stat);
    ProcExecutable identify(OpenExecutable open, const bh_subject& subject);
    const Seen& remember(Seen seen);
    void forget(std::uint32_t pid);
    void remember_program(const Seen& seen);
    std::string program_of(const bh_subject& subject, const Seen* seen) const;
    std::string cgroup_of(const bh_subject& subject, const Seen* seen);

    ProcFiles files_;
    PatientReader arguments_{system_clock()};
    TimeBudget for_mounts_{system_clock(), for_mounts}, for_mounts_of_root_{system_clock(), for_mounts_of_root};
    UserNames users_;
    CgroupIndex cgroups_;
    std::optional<std::uint64_t> own_mounts_, own_users_;
    std::map<ProgramKey, Program> programs_;
    std::list<Seen> recent_; // latest first
    std::size_t bytes_ = 0;  // of those
    std::unordered_map<std::uint32_t, std::list<Seen>::iterator> by_pid_;
};

// The event says by which device the kernel knows the program. Only where the file shows another one, as on btrfs, the
// mounts are read.
ProcExecutable ProcProcessTable::identify(OpenExecutable open, const bh_subject& subject)
{
    auto& file = open.executable.file;
    const bool is_to_be_read = file.inode == subject.exe_inode && file.device != subject.exe_device;
    auto& budget = subject.uid == 0 ? for_mounts_of_root_ : for_mounts_;
    if (is_to_be_read && budget.has_some_for(subject.uid)) {
        const auto begun = system_clock().monotonic();
        file = identify_file(open.shown, files_.path(subject.pid, "mountinfo"));
        budget.spend(subject.uid, system_clock().monotonic() - begun);
    }
    return std::move(open.executable);
}

Seen ProcProcessTable::read(const bh_subject& subject, const ProcStat& stat)
{
    const auto pid = subject.pid;
    Seen seen;
    seen.pid = pid;
    seen.stat = stat;
    if (auto open = files_.open_executable(pid))
        seen.executable = identify(std::move(*open), subject);
    seen.comm = files_.comm(pid);
    seen.command_line = files_.command_line(pid, arguments_);
    seen.command_line.shrink_to_fit(); // it was read into a buffer of the longest
    seen.cgroup = files_.cgroup(pid);
    seen.login_uid = files_.login_uid(pid);
    if (stat.ppid != 0)
        if (auto parent = files_.open_executable(stat.ppid))
            seen.parent_exe = std::move(parent->executable.path);
    return seen;
}

const Seen& ProcProcessTable::remember(Seen seen)
{
    forget(seen.pid);
    recent_.push_front(std::move(seen));
    by_pid_[recent_.front().pid] = recent_.begin();
    bytes_ += recent_.front().bytes();
    while (bytes_ > max_bytes && recent_.size() > 1)
        forget(recent_.back().pid);
    return recent_.front();
}

void ProcProcessTable::forget(std::uint32_t pid)
{
    const auto known = by_pid_.find(pid);
    if (known == by_pid_.end())
        return;
    bytes_ -= known->second->bytes();
    recent_.erase(known->second);
    by_pid_.erase(known);
}

void ProcProcessTable::remember_program(const Seen& seen)
{
    if (seen.executable.file.inode == 0 || seen.executable.deleted)
        return;
    const ProgramKey key{seen.executable.file.device, seen.executable.file.inode};
    if (const auto known = programs_.find(key); known != programs_.end() && known->second.path == seen.executable.path)
        return;
    // Where anybody may mount, anybody may have given the file another name, and others run it, too. Nor is it believed
    // of a descriptor or a root folder that was passed out from there: the mount has to be one of its namespace.
    const auto mounts = files_.mount_name_space(seen.pid);
    const auto open = files_.open_executable(seen.pid);
    if (!mounts || mounts->owner != own_users_ || !open || open->executable.path != seen.executable.path)
        return;
    // A list is whole if whoever is asked for it has the root of the namespace: of the host, and of the agent.
    const auto asked = mounts->id == files_.name_space(1, "mnt") ? 1
                       : mounts->id == own_mounts_               ? static_cast<std::uint32_t>(::getpid())
                                                                 : seen.pid;
    if (!open->shown.mount || !device_of_mount(files_.path(asked, "mountinfo"), *open->shown.mount))
        return;
    if (programs_.size() >= max_programs)
        programs_.clear();
    const bool own = mounts->id == own_mounts_;
    programs_[key] = {seen.executable.path, own};
}

// The process that the subject was, as far as can be told: it may have died, its pid may have been given away, it may
// run another program by now. nullptr: nothing is known but what the event says.
const Seen* ProcProcessTable::look(const bh_subject& subject)
{
    if (subject.pid == 0)
        return nullptr;
    const auto known = by_pid_.find(subject.pid);
    const Seen* old = known == by_pid_.end() ? nullptr : &*known->second;
    const auto stat = files_.stat(subject.pid);
    if (old != nullptr && runs(*old, subject) && (!stat || stat->start_time == old->stat.start_time)) {
        recent_.splice(recent_.begin(), recent_, known->second);
        return old;
    }
    if (!stat)
        return nullptr;
    auto now = read(subject, *stat);
    const auto after = files_.stat(subject.pid);
    const bool torn = !after || after->start_time != stat->start_time; // it died while it was read
    if (!torn && runs(now, subject)) {
        if (subject.exe_inode != 0)
            remember_program(now);
        return &remember(std::move(now));
    }
    if (old != nullptr && runs(*old, subject))
        return old;
    // It has started another program since: what belongs to the process still holds, program and arguments do not.
    if (torn || (old != nullptr && old->stat.start_time != stat->start_time))
        return nullptr;
    now.executable = {};
    now.command_line.clear();
    now.comm.clear();
    return &remember(std::move(now));
}

std::string ProcProcessTable::program_of(const bh_subject& subject, const Seen* seen) const
{
    if (seen != nullptr && runs(*seen, subject))
        return seen->executable.path;
    const auto known = programs_.find({subject.exe_device, subject.exe_inode});
    if (known == programs_.end())
        return {};
    const auto& program = known->second;
    if (!program.own_mounts)
        return program.path;
    // An upgrade may have given the inode to another file since.
    const auto file = identify_file(program.path, files_.path(static_cast<std::uint32_t>(::getpid()), "mountinfo"));
    const bool same = file && file->inode == subject.exe_inode && file->device == subject.exe_device;
    return same ? program.path : std::string{};
}

std::string ProcProcessTable::cgroup_of(const bh_subject& subject, const Seen* seen)
{
    const std::string hint = seen != nullptr ? seen->cgroup : std::string{};
    return subject.cgroup_id != 0 ? cgroups_.path_of(subject.cgroup_id, hint) : hint;
}

v1::Process ProcProcessTable::describe(const bh_subject& subject)
{
    const auto* seen = look(subject);
    v1::Process process;
    process.set_pid(subject.pid);
    process.set_uid(subject.uid);
    process.set_user(as_utf8(users_.name_of(subject.uid)));
    process.set_comm(as_utf8(comm_of(subject)));
    process.set_exe(end_of(as_utf8(program_of(subject, seen)), most_of_name));
    const auto cgroup = cgroup_of(subject, seen);
    const auto names = parse_cgroup_path(cgroup);
    process.set_cgroup(beginning_of(as_utf8(cgroup), most_of_name));
    process.set_unit(names.unit);
    process.set_container(names.container);
    if (seen == nullptr)
        return process;
    process.set_ppid(seen->stat.ppid);
    process.set_cmdline(beginning_of(as_utf8(seen->command_line), most_of_name));
    process.set_parent_exe(end_of(as_utf8(seen->parent_exe), most_of_name));
    if (process.comm().empty())
        process.set_comm(as_utf8(seen->comm));
    if (seen->login_uid)
        process.set_login_uid(*seen->login_uid);
    return process;
}

policy::ProcessFacts ProcProcessTable::facts(const bh_subject& subject)
{
    const auto* seen = look(subject);
    policy::ProcessFacts facts;
    facts.exe = program_of(subject, seen);
    facts.user = users_.name_of(subject.uid);
    if (facts.user.empty())
        facts.user = std::to_string(subject.uid);
    auto names = parse_cgroup_path(administered_part(cgroup_of(subject, seen)));
    facts.container = std::move(names.container);
    facts.units = std::move(names.units);
    return facts;
}

} // namespace

std::unique_ptr<ProcessTable> make_process_table(const ProcessTableOptions& options)
{
    return std::make_unique<ProcProcessTable>(options);
}

} // namespace bulkhead::agent
