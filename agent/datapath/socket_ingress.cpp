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
    is_pinned_ = options_.attach && ::access(pins.link(pin_name).c_str(), F_OK) == 0;
    wanted_ = options_.attach && (options_.always || is_pinned_);
    if (!wanted_)
        return {};
    auto loaded = program_->load();
    if (loaded || options_.always)
        return loaded;
    log_error("{}", loaded.error().message);
    return {};
}

void SocketIngress::begin(const PinFolder& pins, Attachments& attachments) const
{
    if (wanted_) {
        if (const auto attached = attach(attachments); !attached)
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
    if (options_.attach && needed && !std::exchange(wanted_, true))
        log_info("packets may come to network namespaces past the guard: from now on sockets are asked about where no "
                 "inbound door stands (cgroup_ingress)");
    return wanted_ && !attachments.holds(pin_name) ? attach(attachments) : Status();
}

std::vector<PinnedObject> SocketIngress::kept(const PinFolder& pins) const
{
    return wanted_ ? std::vector<PinnedObject>{{pins.link(pin_name), -1}} : std::vector<PinnedObject>{};
}

bool SocketIngress::acts(const Attachments& attachments) const
{
    return is_pinned_ || attachments.holds(pin_name);
}

Status SocketIngress::attach(Attachments& attachments) const
{
    BULKHEAD_CHECK(program_->load());
    return attachments.add({pin_name, program_->program("bh_ingress"), BPF_CGROUP_INET_INGRESS});
}

} // namespace bulkhead::agent
