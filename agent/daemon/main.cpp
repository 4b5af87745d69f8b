// SPDX-License-Identifier: Apache-2.0
#include "agent/config/command_line.h"
#include "agent/daemon/agent.h"
#include "agent/daemon/environment.h"
#include "agent/daemon/failed_starts.h"
#include "agent/daemon/service_manager.h"
#include "common/core/log.h"
#include "common/core/unique_fd.h"
#include "common/tls/tls.h"

#include <fcntl.h>

#include <iostream>
#include <malloc.h>

namespace {

using namespace bulkhead;

Status carry_out(const agent::Invocation& invocation)
{
    switch (invocation.action) {
    case agent::Action::check: return agent::check_configuration(invocation, std::cout);
    case agent::Action::detach: return agent::detach(invocation, std::cout);
    case agent::Action::run: break;
    }
    BULKHEAD_TRY(const auto running, agent::Agent::start(invocation));
    agent::forget_failed_starts(agent::runtime_folder());
    return running->run();
}

// A process with threads waits for all CPUs each time its table of descriptors grows (expand_fdtable in fs/file.c). So
// it is made large enough before there are any. That it cannot be is no harm.
void grow_descriptor_table()
{
    constexpr int enough = 1023; // the default limit less one
    const UniqueFd any(::open("/", O_PATH | O_CLOEXEC));
    const UniqueFd high(::fcntl(any.get(), F_DUPFD_CLOEXEC, enough));
}

} // namespace

int main(int argc, char** argv)
{
    grow_descriptor_table();
    // Loading programs and reading policies takes megabytes for a moment, in threads, too. By itself glibc keeps as
    // much as was ever freed at once, in every thread's arena (mallopt(3)). Setting one threshold fixes the other at
    // 128 KiB, and each batch of records would be mapped and unmapped: so both are set.
    ::mallopt(M_ARENA_MAX, 2);
    ::mallopt(M_TRIM_THRESHOLD, 2 << 20);
    ::mallopt(M_MMAP_THRESHOLD, 2 << 20);
    tls::require_tls13();
    agent::block_signals();
    const auto invocation = agent::read_invocation(argc, argv, std::cout);
    if (invocation && !*invocation)
        return 0;
    Status done;
    if (!invocation) {
        done = tl::unexpected(invocation.error());
    } else {
        set_log_level((*invocation)->config.log_level);
        done = carry_out(**invocation);
    }
    if (done)
        return 0;
    std::cerr << "bulkheadd: " << done.error().message << '\n';
    if (invocation && (*invocation)->action == agent::Action::run && done.error().kind != ErrorKind::refused) {
        const auto now = agent::after_failed_start((*invocation)->config);
        std::cerr << "bulkheadd: not running; " << now << '\n';
        agent::notify_status(done.error().message.substr(0, done.error().message.find('\n')) + "; " + now);
        if (done.error().kind == ErrorKind::failed) // the others are not tried again
            agent::wait_for_signal(agent::pause_after(agent::count_failed_start(agent::runtime_folder())));
    }
    return exit_code(done.error().kind);
}
