// SPDX-License-Identifier: Apache-2.0
#include "common/tls/tls.h"
#include "controller/daemon/controller.h"

#include <systemd/sd-daemon.h>

#include <csignal>
#include <cstdlib>
#include <ctime>

namespace {

using namespace bulkhead;
using namespace bulkhead::controller;

constexpr std::time_t certificate_interval_seconds = 3600;

int complain(const Error& error)
{
    const auto text = fmt::format("bulkhead-controller: {}\n{}", error.message,
                                  error.mend.empty() ? "" : fmt::format("    mend: {}\n", error.mend));
    std::fputs(text.c_str(), stderr);
    return exit_code(error.kind);
}

void greet(const Controller& controller)
{
    fmt::print(stderr,
               "The first admin's context was written to {0}.\n"
               "  use the CLI:     bulkheadctl --config {0} agent status\n"
               "  enrol an agent:  bulkheadctl --config {0} agent token create\n"
               "                   bulkheadd --controller {1} --join TOKEN     (on the host, with this host's name or "
               "address)\n",
               controller.admin_file(), controller.address());
}

void reload_log_level(const Invocation& invocation)
{
    if (invocation.config_file.empty() || invocation.log_level_given)
        return;
    const auto text = read_config_file(invocation.config_file);
    const auto config = text ? parse_config(invocation.config_file, *text) : tl::unexpected(text.error());
    if (!config) {
        log_error("reload: {}", config.error().message);
        return;
    }
    set_log_level(config->log_level);
    log_info("reload: the log level was read again; other settings need a restart");
}

void wait_for_end(const sigset_t& signals, Controller& controller, const Invocation& invocation)
{
    for (;;) {
        const timespec interval{certificate_interval_seconds, 0};
        const int signal = ::sigtimedwait(&signals, nullptr, &interval);
        if (signal == SIGTERM || signal == SIGINT)
            return;
        if (signal == SIGHUP)
            reload_log_level(invocation);
        controller.look_after_certificate();
    }
}

} // namespace

int main(int argc, char** argv)
{
    tls::require_tls13();
    // gRPC logs every stranger's failed handshake as an error; what matters of it comes back to us as a status.
    ::setenv("GRPC_VERBOSITY", "NONE", 0);
    const auto invocation = read_invocation(argc, argv);
    if (!invocation)
        return complain(invocation.error());
    if (!*invocation)
        return 0;
    const auto& config = (*invocation)->config;
    if ((*invocation)->action == Action::check) {
        fmt::print("configuration is valid\n");
        return 0;
    }
    set_log_level(config.log_level);

    // Blocked before any thread exists, so that every thread inherits it and sigtimedwait() alone sees them.
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP})
        sigaddset(&signals, signal);
    ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);

    auto controller = Controller::start(config, system_clock());
    if (!controller)
        return complain(controller.error());
    if ((*controller)->made_admin())
        greet(**controller);
    log_info("listening on {} (port {})", config.grpc_listen, (*controller)->port());
    ::sd_notify(0, "READY=1");
    wait_for_end(signals, **controller, **invocation);
    ::sd_notify(0, "STOPPING=1");
    log_info("stopping");
    return 0;
}
