// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/stepped_process.h"

#include <linux/bpf.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace bulkhead::test {

namespace {

constexpr int system_call_stop = SIGTRAP | 0x80; // as PTRACE_O_TRACESYSGOOD marks it

// Entering a system call that changes what is pinned or attached.
bool is_change(pid_t pid, SteppedProcess::Step wanted)
{
    __ptrace_syscall_info info{};
    if (::ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), &info) <= 0 || info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return false;
    if (wanted == SteppedProcess::Step::exchange_at_a_link)
        return info.entry.nr == SYS_bpf && info.entry.args[0] == BPF_LINK_UPDATE;
    if (wanted == SteppedProcess::Step::rename)
        return info.entry.nr == SYS_rename || info.entry.nr == SYS_renameat2;
    switch (info.entry.nr) {
    case SYS_bpf:
        switch (info.entry.args[0]) {
        case BPF_OBJ_PIN:
        case BPF_LINK_CREATE:
        case BPF_LINK_UPDATE:
        case BPF_LINK_DETACH: return true;
        default: return false;
        }
    case SYS_rename:
    case SYS_renameat2:
    case SYS_unlink:
    case SYS_unlinkat:
    case SYS_mkdir:
    case SYS_rmdir: return true;
    default: return false;
    }
}

} // namespace

SteppedProcess::SteppedProcess(const std::function<void(const std::function<void()>&)>& work)
{
    pid_ = ::fork();
    if (pid_ != 0)
        return;
    work([] {
        (void)::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
        (void)::raise(SIGSTOP);
    });
    ::_exit(0);
}

SteppedProcess::~SteppedProcess()
{
    if (ended_ || pid_ <= 0)
        return;
    (void)::kill(pid_, SIGKILL);
    (void)::waitpid(pid_, nullptr, 0);
}

// False: it has ended.
bool SteppedProcess::wait_for_stop()
{
    int status = 0;
    ended_ = ::waitpid(pid_, &status, 0) != pid_ || !WIFSTOPPED(status);
    return !ended_ && WSTOPSIG(status) == system_call_stop;
}

int SteppedProcess::run(int changes, Step step)
{
    int status = 0;
    if (::waitpid(pid_, &status, 0) != pid_ || !WIFSTOPPED(status)) {
        ended_ = true;
        return -1;
    }
    (void)::ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
    for (int made = 0;;) {
        if (::ptrace(PTRACE_SYSCALL, pid_, nullptr, nullptr) != 0)
            return -1;
        const bool stopped = wait_for_stop();
        if (ended_)
            return made;
        if (!stopped || !is_change(pid_, step))
            continue;
        if (made == changes)
            return made; // the destructor kills it where it stands
        ++made;
    }
}

void SteppedProcess::run_disturbed(Step before, const std::function<void()>& disturb)
{
    (void)run(0, before);
    if (ended_)
        return;
    disturb();
    (void)::ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
    (void)::waitpid(pid_, nullptr, 0);
    ended_ = true;
}

} // namespace bulkhead::test
