// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/spool.h"
#include "common/record/filter.h"
#include "common/record/json.h"
#include "common/wire/wire.h"

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

namespace bulkhead::agent {
namespace {

// As an agent writes it for a TCP connection between two labelled hosts: about 450 bytes.
v1::Record typical_record()
{
    v1::Record record;
    record.set_time_us(1'795'225'439'000'123);
    record.set_kind(v1::Record::FLOW);
    record.set_event(v1::Record::CLOSE);
    record.set_flow_id("0123456789abcdef");
    record.set_host("web-1.example.org");
    record.set_agent_id("7f3c2b1a-0000-4000-8000-000000000001");
    record.set_boot_id("7f3c2b1a-0000-4000-8000-000000000002");
    record.set_direction(v1::Record::OUTBOUND);
    record.set_verdict(v1::Record::ALLOWED);
    record.set_reason(v1::Record::RULE);
    record.set_rule("shop-db/api-to-db");
    record.set_policy_version(12);
    for (auto* end : {record.mutable_src(), record.mutable_dst()}) {
        end->set_ip(wire::to_wire(IpAddress::from_v4(0x0a000001)));
        end->set_port(43210);
        end->set_workload("web-1");
        end->add_segments("shop-web");
        (*end->mutable_labels())["app"] = "shop";
        (*end->mutable_labels())["role"] = "web";
        end->set_identity(7);
    }
    record.set_protocol(6);
    record.set_bytes_out(1234);
    record.set_bytes_in(56789);
    record.set_duration_us(1500);
    record.mutable_process()->set_pid(4242);
    record.mutable_process()->set_exe("/usr/sbin/nginx");
    record.mutable_process()->set_comm("nginx");
    record.mutable_process()->set_unit("nginx.service");
    record.mutable_process()->set_cgroup("/system.slice/nginx.service");
    record.set_count(1);
    record.set_community_id("1:wCb3OG7yAFWelaUydu0D+125CLM=");
    return record;
}

class Folder {
public:
    Folder()
    {
        std::string path = (std::filesystem::temp_directory_path() / "bulkhead-bench-XXXXXX").string();
        path_ = ::mkdtemp(path.data()) != nullptr ? path : "";
    }
    ~Folder()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] std::unique_ptr<Spool> open() const { return open_spool({path_}).value(); }

private:
    std::string path_;
};

void append(benchmark::State& state)
{
    const Folder folder;
    const auto spool = folder.open();
    const auto record = typical_record();
    for (auto _ : state)
        benchmark::DoNotOptimize(spool->append(record));
    state.SetItemsProcessed(state.iterations());
    state.SetBytesProcessed(static_cast<std::int64_t>(spool->bytes()));
}
BENCHMARK(append);

void append_while_an_uplink_reads(benchmark::State& state)
{
    const Folder folder;
    const auto spool = folder.open();
    const auto record = typical_record();
    std::atomic<bool> stop = false;
    std::thread uplink([&] {
        std::uint64_t after = 0;
        while (!stop) {
            const auto some = spool->read(after, 1000, std::chrono::milliseconds(10));
            if (some && !some->empty()) {
                after = some->back().seq();
                (void)spool->acknowledge(after);
            }
        }
    });
    for (auto _ : state)
        benchmark::DoNotOptimize(spool->append(record));
    stop = true;
    uplink.join();
    state.SetItemsProcessed(state.iterations());
    state.counters["delivered"] = static_cast<double>(spool->acknowledged());
}
BENCHMARK(append_while_an_uplink_reads)->UseRealTime();

constexpr std::uint64_t held = 100'000;

void read(benchmark::State& state)
{
    const Folder folder;
    const auto spool = folder.open();
    for (std::uint64_t i = 0; i < held; ++i)
        (void)spool->append(typical_record());
    std::uint64_t after = 0;
    std::int64_t count = 0;
    for (auto _ : state) {
        const auto some = spool->read(after, 1000, std::chrono::milliseconds(0));
        count += static_cast<std::int64_t>(some->size());
        after = some->empty() ? 0 : some->back().seq();
    }
    state.SetItemsProcessed(count);
}
BENCHMARK(read);

void open_with_records(benchmark::State& state)
{
    const Folder folder;
    {
        const auto spool = folder.open();
        for (std::uint64_t i = 0; i < held; ++i)
            (void)spool->append(typical_record());
    }
    for (auto _ : state)
        benchmark::DoNotOptimize(folder.open());
    state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(held));
}
BENCHMARK(open_with_records)->Unit(benchmark::kMillisecond);

void write_json(benchmark::State& state)
{
    const auto record = typical_record();
    for (auto _ : state)
        benchmark::DoNotOptimize(record::to_json(record));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(write_json);

void read_json(benchmark::State& state)
{
    const auto line = record::to_json(typical_record());
    for (auto _ : state)
        benchmark::DoNotOptimize(record::from_json(line));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(read_json);

void match_filter(benchmark::State& state)
{
    v1::RecordQuery query;
    query.mutable_filter()->add_from("app=shop,role=web");
    query.mutable_filter()->add_to("10.0.0.0/8");
    query.mutable_filter()->add_processes("nginx");
    const auto matcher = record::make_matcher(query).value();
    const auto record = typical_record();
    for (auto _ : state)
        benchmark::DoNotOptimize(matcher->matches(record));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(match_filter);

} // namespace
} // namespace bulkhead::agent
