// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/cgroup_watch.h"

#include "agent/datapath/libbpf_messages.h"
#include "common/core/log.h"

#include "newcomers.skel.h"

#include <cerrno>
#include <utility>

namespace bulkhead::agent {

void CgroupWatch::Deleter::operator()(::newcomers* skeleton) const
{
    ::newcomers::destroy(skeleton);
}

CgroupWatch::CgroupWatch(const Scope& scope) : scope_(scope) {}
CgroupWatch::~CgroupWatch() = default;
CgroupWatch::CgroupWatch(CgroupWatch&&) noexcept = default;
CgroupWatch& CgroupWatch::operator=(CgroupWatch&&) noexcept = default;

int CgroupWatch::fd()
{
    if (!std::exchange(tried_, true))
        if (const auto begun = begin(); !begun)
            log_debug("new cgroups are noticed once a second only: {}", begun.error().message);
    return ring_ ? ring_->fd() : -1;
}

bool CgroupWatch::take()
{
    if (!ring_)
        return false;
    const auto records = ring_->read([](std::span<const std::byte>) {}, 1, [] {});
    return records && *records > 0;
}

Status CgroupWatch::begin()
{
    std::unique_ptr<::newcomers, Deleter> skeleton(::newcomers::open());
    if (!skeleton)
        return fail_errno(errno, "open the program that tells of new cgroups");
    skeleton->rodata->scope_cgroup = scope_.cgroup;
    skeleton->rodata->scope_level = scope_.level;
    skeleton->rodata->scope_owner = scope_.owner;
    const LibbpfWarnings warnings;
    if (const int error = ::newcomers::load(skeleton.get()); error != 0)
        return fail_errno(-error, fmt::format("load the program that tells of new cgroups ({})", warnings.summary()));
    BULKHEAD_TRY(auto ring, RingReader::open(bpf_map__fd(skeleton->maps.bh_new_cgroups)));
    Link link(bpf_program__attach_raw_tracepoint(skeleton->progs.bh_cgroup_is_made, "cgroup_mkdir"));
    if (!link)
        return fail_errno(errno, "attach the program that tells of new cgroups");
    skeleton_ = std::move(skeleton);
    link_ = std::move(link);
    ring_ = std::move(ring);
    return {};
}

} // namespace bulkhead::agent
