// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/socket_ingress.h"

#include "common/core/log.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <string>

namespace bulkhead::agent {

namespace {

constexpr const char* pin_name = "ingress";

} // namespace

Status SocketIngress::prepare(const PinFolder& pins)
{
    wanted_ = options_.attach && (options_.always || ::access(pins.link(pin_name).c_str(), F_OK) == 0);
    if (!wanted_)
        return {};
    auto loaded = program_->load();
    loaded_ = loaded.has_value();
    if (loaded_ || options_.always)
        return loaded;
    log_error("{}", loaded.error().message);
    return {};
}

Hook SocketIngress::hook() const
{
    return {pin_name, program_->program("bh_ingress"), BPF_CGROUP_INET_INGRESS};
}

std::vector<Hook> SocketIngress::hooks() const
{
    return options_.attach && options_.always ? std::vector<Hook>{hook()} : std::vector<Hook>{};
}

void SocketIngress::begin(const PinFolder& pins, Attachments& attachments) const
{
    if (wanted_) {
        if (const auto attached = loaded_ ? attachments.add(hook()) : Status(); !attached)
            log_error("{}", attached.error().message);
        return;
    }
    const std::string pin = pins.link(pin_name);
    if (const UniqueFd link(bpf_obj_get(pin.c_str())); link)
        (void)bpf_link_detach(link.get()); // also where somebody holds it
    (void)::unlink(pin.c_str());
}

Status SocketIngress::follow(bool needed, Attachments& attachments)
{
    wanted_ = wanted_ || (options_.attach && needed);
    if (!wanted_ || attachments.holds(pin_name))
        return {};
    BULKHEAD_CHECK(program_->load());
    loaded_ = true;
    BULKHEAD_CHECK(attachments.add(hook()));
    log_info("packets may come to network namespaces past the guard: from now on sockets are asked about where no "
             "inbound door stands (cgroup_ingress)");
    return {};
}

bool SocketIngress::acts(const PinFolder& pins)
{
    const UniqueFd link(bpf_obj_get(pins.link(pin_name).c_str()));
    bpf_link_info info{};
    __u32 size = sizeof(info);
    return link && bpf_obj_get_info_by_fd(link.get(), &info, &size) == 0 && info.cgroup.cgroup_id != 0;
}

} // namespace bulkhead::agent
