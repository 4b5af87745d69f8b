// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/fixture.h"

#include "tests/bpf/claim.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

namespace bulkhead::test {

namespace {

// Some tests hold thousands of sockets; a login has 1,024 unless it asks for more.
void take_all_descriptors()
{
    rlimit files{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = std::max(files.rlim_cur, std::min<rlim_t>(files.rlim_max, 65536));
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &files), 0);
}

} // namespace

void BpfTest::SetUp()
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "needs root: makes cgroups and network namespaces and loads programs";
    take_all_descriptors();
    world_ = std::make_unique<World>(Claim::of_this_process().cgroup());
    auto opened = open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    datapath_ = std::move(*opened);
}

void BpfTest::TearDown()
{
    datapath_.reset();
    if (!world_)
        return;
    std::error_code ignored;
    const std::filesystem::path pins(options().pin_dir);
    std::vector<std::string> instances;
    for (const auto& folder : std::filesystem::directory_iterator(pins, ignored))
        instances.push_back(folder.path().filename().string());
    for (const auto& instance : instances)
        EXPECT_TRUE(agent::detach_datapath(options(instance)));
    EXPECT_FALSE(std::filesystem::exists(pins));
}

agent::DatapathOptions BpfTest::options(const std::string& instance) const
{
    agent::DatapathOptions options{world_->enforced.path(), Claim::of_this_process().pins(), instance};
    options.ingress = ingress_;
    return options;
}

Result<std::unique_ptr<agent::Datapath>> BpfTest::open(const agent::DatapathOptions& options) const
{
    Result<std::unique_ptr<agent::Datapath>> result;
    run_in(world_->wire.guarded, world_->elsewhere, [&] { result = agent::open_datapath(options); });
    return result;
}

void BpfTest::realise(const TestPolicy& policy, agent::FacetTable facets)
{
    const auto generation = test::realise(*datapath_, policy, std::move(facets));
    ASSERT_TRUE(generation) << generation.error().message;
}

std::optional<bh_event> BpfTest::wait_for(const Condition& condition)
{
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    do {
        while (!pending_.empty()) {
            const bh_event event = pending_.front();
            pending_.pop_front();
            if (condition(event))
                return event;
        }
        EXPECT_TRUE(datapath_->consume([&](const bh_event& event) { pending_.push_back(event); }, [] {},
                                       std::chrono::milliseconds(100)));
    } while (!pending_.empty() || std::chrono::steady_clock::now() < deadline);
    return std::nullopt;
}

std::size_t BpfTest::drained_count(const Condition& condition)
{
    const auto events = drain();
    return static_cast<std::size_t>(std::count_if(events.begin(), events.end(), condition));
}

std::vector<bh_event> BpfTest::drain()
{
    std::vector<bh_event> events(pending_.begin(), pending_.end());
    pending_.clear();
    const auto keep = [&](const bh_event& event) { events.push_back(event); };
    while (datapath_
               ->consume(
                   keep, [] {}, std::chrono::milliseconds(150))
               .value() > 0) {
    }
    return events;
}

} // namespace bulkhead::test
