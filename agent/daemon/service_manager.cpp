// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/service_manager.h"

#include "common/core/clock.h"

#include <systemd/sd-daemon.h>

#include <cerrno>
#include <csignal>
#include <sys/signalfd.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

sigset_t handled_signals()
{
    sigset_t set;
    ::sigemptyset(&set);
    for (const int number : {SIGTERM, SIGINT, SIGHUP})
        ::sigaddset(&set, number);
    return set;
}

} // namespace

void notify_ready(const std::string& status)
{
    ::sd_notify(0, ("READY=1\nSTATUS=" + status).c_str());
}

void notify_status(const std::string& status)
{
    ::sd_notify(0, ("STATUS=" + status).c_str());
}

void notify_reloading()
{
    const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(system_clock().monotonic()).count();
    ::sd_notify(0, fmt::format("RELOADING=1\nMONOTONIC_USEC={}", micros).c_str());
}

void notify_stopping()
{
    ::sd_notify(0, "STOPPING=1");
}

void notify_watchdog()
{
    ::sd_notify(0, "WATCHDOG=1");
}

void notify_busy()
{
    ::sd_notify(0, "WATCHDOG=1\nEXTEND_TIMEOUT_USEC=30000000");
}

void block_signals()
{
    const sigset_t set = handled_signals();
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

Result<UniqueFd> open_signals()
{
    const sigset_t set = handled_signals();
    UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd)
        return fail_errno(errno, "signalfd");
    return fd;
}

std::optional<int> read_signal(const UniqueFd& signals)
{
    signalfd_siginfo info{};
    if (::read(signals.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info))
        return std::nullopt;
    return static_cast<int>(info.ssi_signo);
}

} // namespace bulkhead::agent
