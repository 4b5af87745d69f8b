// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/kernel_features.h"

#include "agent/datapath/bpf_objects.h"

#include "probes.skel.h"

#include <sys/utsname.h>

#include <cstdio>
#include <cstring>
#include <tuple>

namespace bulkhead::agent {

namespace {

struct ProbesDeleter {
    void operator()(::probes* skeleton) const { ::probes::destroy(skeleton); }
};

bool loads(const char* name)
{
    const std::unique_ptr<::probes, ProbesDeleter> probes(::probes::open());
    if (!probes)
        return false;
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, probes->obj)
        bpf_program__set_autoload(program, std::strcmp(bpf_program__name(program), name) == 0);
    return ::probes::load(probes.get()) == 0;
}

} // namespace

bool kernel_is_older_than(unsigned major, unsigned minor)
{
    utsname names{};
    unsigned here_major = 0, here_minor = 0;
    if (::uname(&names) != 0 || std::sscanf(names.release, "%u.%u", &here_major, &here_minor) != 2)
        return false;
    return std::tie(here_major, here_minor) < std::tie(major, minor);
}

KernelFeatures probe_kernel_features()
{
    return {loads("bh_pointer_arguments"), loads("bh_cookies_in_walk")};
}

} // namespace bulkhead::agent
