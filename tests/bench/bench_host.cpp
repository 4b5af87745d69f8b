// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/bench_host.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace bulkhead::bench {

void give_up(const std::string& what)
{
    std::fprintf(stderr, "%s\n", what.c_str());
    std::exit(1);
}

BenchHost::BenchHost(const std::string& cgroup)
{
    options_.cgroup = cgroup;
    datapath_ = take(agent::open_datapath(options_));
    reader_ = std::thread([this] {
        while (!ends_)
            (void)datapath_->consume([](const bh_event&) {}, [] {}, std::chrono::milliseconds(50));
    });
}

BenchHost::~BenchHost()
{
    ends_ = true;
    reader_.join();
    datapath_.reset();
    (void)agent::detach_datapath(options_);
}

void BenchHost::realise(const policy::PlaneImage& image, agent::FacetTable facets)
{
    realise(image, image, std::move(facets));
}

void BenchHost::realise(const policy::PlaneImage& active, const policy::PlaneImage& shadow, agent::FacetTable facets)
{
    take(datapath_->realise({&active, &shadow, std::move(facets)}));
}

void enter_cgroup(const std::string& cgroup)
{
    std::ofstream procs(cgroup + "/cgroup.procs");
    procs << "0" << std::flush;
    if (!procs)
        give_up("enter " + cgroup);
}

void print_samples(const char* name, const std::vector<double>& values, bool last)
{
    std::printf("\"%s\": [", name);
    for (std::size_t i = 0; i < values.size(); ++i)
        std::printf("%s%.6g", i == 0 ? "" : ", ", values[i]);
    std::printf("]%s\n", last ? "" : ",");
}

} // namespace bulkhead::bench
