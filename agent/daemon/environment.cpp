// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/environment.h"

#include "agent/daemon/folder_policy.h"
#include "agent/daemon/host_facts.h"
#include "agent/daemon/record_writer.h"
#include "agent/daemon/service_manager.h"
#include "agent/spool/spool.h"
#include "agent/state/locks.h"
#include "agent/uplink/uplink.h"
#include "common/core/log.h"
#include "common/tls/tls.h"

#include <fmt/ranges.h>

#include <filesystem>
#include <ostream>

namespace bulkhead::agent {
namespace {

// Only where an agent has been: detaching makes no state.
Status write_audit(const AgentConfig& config, const std::string& cgroup)
{
    std::error_code ignored;
    if (!std::filesystem::exists(config.state_dir + "/lock", ignored))
        return {};
    BULKHEAD_TRY(const auto lock, lock_state_dir(config.state_dir));
    BULKHEAD_TRY(auto agent_id, standalone_agent_id(config.state_dir));
    if (const auto enrolled = enrolled_agent_id(config.state_dir); enrolled && !config.controller.empty())
        agent_id = *enrolled;
    BULKHEAD_TRY(auto boot_id, read_boot_id());
    SpoolOptions options;
    options.dir = config.state_dir + "/spool";
    options.max_bytes = config.spool_max_bytes;
    BULKHEAD_TRY(const auto spool, open_spool(options));
    RecordWriter records(*spool, system_clock());
    records.set_origin(hostname_of(config), std::move(agent_id), std::move(boot_id));
    records.audit("agent.detach", cgroup, "everything was removed from the kernel: nothing is enforced");
    return spool->sync();
}

} // namespace

std::string hostname_of(const AgentConfig& config)
{
    return config.hostname.empty() ? system_hostname() : config.hostname;
}

Result<DatapathOptions> datapath_options(const AgentConfig& config)
{
    DatapathOptions options;
    options.pin_dir = config.pin_dir;
    options.cgroup = config.cgroup;
    if (options.cgroup.empty()) {
        BULKHEAD_TRY(options.cgroup, find_cgroup2_root());
    }
    options.instance = instance_name(options.cgroup);
    options.guard.attach = config.guard != AttachMode::never;
    options.guard.interfaces = config.interfaces;
    options.guard.early_drop = config.xdp == XdpMode::automatic;
    options.ingress.attach = config.cgroup_ingress != AttachMode::never;
    options.ingress.always = config.cgroup_ingress == AttachMode::always;
    options.refuse_silently = config.refuse == RefuseMode::silent;
    options.on_progress = notify_busy;
    return options;
}

Status check_features(const DatapathOptions& options)
{
    const auto missing = missing_features(options);
    if (missing.empty())
        return {};
    return fail(ErrorKind::failed, "this host cannot enforce a policy, so nothing was attached:\n{}",
                fmt::join(missing, "\n"));
}

std::string after_failed_start(const AgentConfig& config)
{
    std::error_code ignored; // what cannot be seen is not there
    const auto options = datapath_options(config);
    const std::string folder = options ? pin_folder(*options) : config.pin_dir;
    const bool pinned = std::filesystem::directory_iterator(folder, ignored) !=
                        std::filesystem::end(std::filesystem::directory_iterator());
    if (pinned)
        return fmt::format("what an earlier run left in the kernel ({}) goes on enforcing its policy; 'bulkheadd "
                           "--detach' would end that",
                           folder);
    return "nothing of Bulkhead is in the kernel: this host is reachable, and not protected";
}

Status check_configuration(const Invocation& invocation, std::ostream& out)
{
    const auto& config = invocation.config;
    if (!invocation.join_token.empty())
        BULKHEAD_CHECK(tls::decode_join_token(invocation.join_token));
    if (!config.policy_dir.empty()) {
        FolderPolicy policy;
        BULKHEAD_TRY(auto addresses, own_addresses());
        BULKHEAD_CHECK(policy.compile(config.policy_dir, {hostname_of(config), config.labels, std::move(addresses)}));
    }
    out << "the configuration is valid\n";
    return {};
}

Status detach(const Invocation& invocation, std::ostream& out)
{
    BULKHEAD_TRY(const auto options, datapath_options(invocation.config));
    std::error_code ignored;
    UniqueFd lock;
    if (std::filesystem::exists(options.cgroup, ignored)) { // pins outlive a cgroup that was removed
        auto taken = lock_cgroup(options.cgroup);
        if (!taken)
            return tl::unexpected(std::move(taken).error().within("nothing was detached"));
        lock = std::move(*taken);
    }
    BULKHEAD_TRY(const bool was_attached, detach_datapath(options));
    if (!was_attached) {
        out << "nothing is attached to " << options.cgroup << '\n';
        return {};
    }
    out << "detached from " << options.cgroup << ": nothing is enforced until bulkheadd starts again\n";
    if (const auto audited = write_audit(invocation.config, options.cgroup); !audited)
        log_warning("detached, but no audit record could be written: {}", audited.error().message);
    return {};
}

} // namespace bulkhead::agent
