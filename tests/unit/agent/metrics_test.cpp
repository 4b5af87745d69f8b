// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics/metric_families.h"
#include "agent/metrics/metrics_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/core/unique_fd.h"

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testing::Not;

v1::LocalStatus status_of_a_host()
{
    v1::LocalStatus status;
    status.set_version("1.2.3");
    status.set_enforcing(true);
    status.set_policy_version(7);
    status.set_generation(9);
    status.set_realise_us(1500);
    status.set_enforced_since_us(1'000'000);
    status.set_spool_next_seq(101);
    status.set_acked_seq(90);
    const auto counter = [&status](const char* name, std::uint64_t value) {
        auto& added = *status.add_counters();
        added.set_name(name);
        added.set_value(value);
    };
    counter("denied_in", 12);
    counter("would_deny_forwarded", 3);
    counter("deny_lost", 4);
    counter("stray_segments", 5);
    counter("open_flows", 6);
    const auto map = [&status](const char* name, std::uint64_t entries, std::uint64_t capacity) {
        auto& added = *status.add_maps();
        added.set_name(name);
        added.set_entries(entries);
        added.set_capacity(capacity);
    };
    map("listeners", 20, 16384);
    map("flow_ring", 1024, 8388608);
    return status;
}

std::string text_of(const v1::LocalStatus& status)
{
    return prometheus::TextSerializer().Serialize(metric_families(status, WallTime(11s)));
}

TEST(Metrics, SayWhatTheStatusSays)
{
    const auto text = text_of(status_of_a_host());
    for (const char* line :
         {"bulkhead_build_info{version=\"1.2.3\",component=\"agent\"} 1",
          "bulkhead_verdicts_total{plane=\"active\",verdict=\"denied\",direction=\"inbound\"} 12",
          "bulkhead_verdicts_total{plane=\"shadow\",verdict=\"denied\",direction=\"forwarded\"} 3",
          "bulkhead_kernel_events_lost_total{ring=\"deny\"} 4", "bulkhead_stray_segments_total 5",
          "bulkhead_open_flows 6", "bulkhead_map_entries{map=\"listeners\"} 20",
          "bulkhead_map_capacity{map=\"listeners\"} 16384", "bulkhead_ring_bytes{ring=\"flow\"} 1024",
          "bulkhead_policy_version 7", "bulkhead_policy_generation 9", "bulkhead_policy_age_seconds 10",
          "bulkhead_realise_seconds 0.0015", "bulkhead_records_written_total 100",
          "bulkhead_records_delivered_total 90", "# TYPE bulkhead_verdicts_total counter"})
        EXPECT_THAT(text, HasSubstr(line));
}

TEST(Metrics, WithoutASwitchThereIsNoAge)
{
    auto status = status_of_a_host();
    status.set_enforced_since_us(0);
    EXPECT_THAT(text_of(status), Not(HasSubstr("policy_age")));
}

std::string get(std::uint16_t port)
{
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        return {};
    const std::string request = "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    if (::write(socket.get(), request.data(), request.size()) < 0)
        return {};
    std::string answer(65536, '\0');
    std::size_t size = 0;
    for (ssize_t got = 0; (got = ::read(socket.get(), answer.data() + size, answer.size() - size)) > 0;)
        size += static_cast<std::size_t>(got);
    answer.resize(size);
    return answer;
}

std::uint16_t free_port()
{
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    return ntohs(address.sin_port);
}

TEST(Metrics, AreAnsweredOverHttpAndATakenPortIsAnError)
{
    const auto port = free_port();
    const auto listen = "127.0.0.1:" + std::to_string(port);
    const auto server = serve_metrics(listen, [] { return std::optional(status_of_a_host()); });
    ASSERT_TRUE(server) << server.error().message;
    const auto answer = get(port);
    EXPECT_THAT(answer, HasSubstr("200 OK"));
    EXPECT_THAT(answer, HasSubstr("bulkhead_policy_version 7"));
    const auto second = serve_metrics(listen, [] { return std::optional<v1::LocalStatus>(); });
    ASSERT_FALSE(second);
    EXPECT_THAT(second.error().message, HasSubstr(listen));
}

} // namespace
} // namespace bulkhead::agent
