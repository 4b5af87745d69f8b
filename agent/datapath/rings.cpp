// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/rings.h"

#include "common/core/log.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace bulkhead::agent {

namespace {

// Of a process that is killed, the next one may record so many events of each ring twice; refused attempts are counted.
constexpr std::size_t flow_batch = 8, denial_batch = 1;
// The kernel never wakes us for flow events; this is how late one may be seen.
constexpr std::chrono::milliseconds flow_poll_period{50};

} // namespace

Result<std::unique_ptr<Rings>> Rings::open(int flow_ring, int deny_ring)
{
    BULKHEAD_TRY(RingReader flows, RingReader::open(flow_ring));
    BULKHEAD_TRY(RingReader denials, RingReader::open(deny_ring));
    return std::unique_ptr<Rings>(new Rings(std::move(flows), std::move(denials)));
}

Result<std::size_t> Rings::drain(const Datapath::EventSink& sink, const Datapath::Settle& settle)
{
    std::size_t delivered = 0;
    Status done; // one ring in trouble does not keep the other from being read
    const auto deliver = [&](std::span<const std::byte> record) {
        bh_event event{};
        if (record.size() != sizeof(event) && record.size() != BH_BRIEF_EVENT) {
            log_error("a ring holds a record of {} bytes, neither {} nor {}: skipped", record.size(), sizeof(event),
                      BH_BRIEF_EVENT);
            return;
        }
        std::memcpy(&event, record.data(), record.size());
        ++delivered;
        sink(event);
    };
    const auto drain_one = [&](RingReader& ring, std::size_t batch) {
        if (const auto read = ring.read(deliver, batch, settle); !read)
            done = tl::unexpected(read.error());
    };
    drain_one(flows_, flow_batch);
    drain_one(denials_, denial_batch);
    BULKHEAD_CHECK(done);
    return delivered;
}

Result<std::size_t> Rings::consume(const Datapath::EventSink& sink, const Datapath::Settle& settle,
                                   std::chrono::milliseconds timeout)
{
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + timeout;
    while (true) {
        BULKHEAD_TRY(const std::size_t delivered, drain(sink, settle));
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        if (delivered > 0 || left.count() <= 0)
            return delivered;
        pollfd waiting{denials_.fd(), POLLIN, 0};
        if (::poll(&waiting, 1, static_cast<int>(std::min(left, flow_poll_period).count())) < 0 && errno != EINTR)
            return fail_errno(errno, "wait for the denial ring");
    }
}

} // namespace bulkhead::agent
