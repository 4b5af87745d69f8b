// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/rings.h"

#include "common/core/log.h"

#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace bulkhead::agent {

namespace {

// The kernel never wakes us for flow events; this is how late one may be seen.
constexpr std::chrono::milliseconds flow_poll_period{50};

} // namespace

Rings::Positions::Positions(int ring)
{
    const long page = ::sysconf(_SC_PAGESIZE);
    const auto map = [&](long offset) {
        void* mapped = ::mmap(nullptr, static_cast<std::size_t>(page), PROT_READ, MAP_SHARED, ring, offset);
        return mapped == MAP_FAILED ? nullptr : mapped;
    };
    consumer_ = map(0);
    producer_ = map(page);
}

Rings::Positions::Positions(Positions&& other) noexcept
    : consumer_(std::exchange(other.consumer_, nullptr)), producer_(std::exchange(other.producer_, nullptr))
{}

Rings::Positions& Rings::Positions::operator=(Positions&& other) noexcept
{
    std::swap(consumer_, other.consumer_);
    std::swap(producer_, other.producer_);
    return *this;
}

Rings::Positions::~Positions()
{
    for (void* page : {consumer_, producer_})
        if (page != nullptr)
            ::munmap(page, static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)));
}

std::uint64_t Rings::Positions::unread() const
{
    if (consumer_ == nullptr || producer_ == nullptr)
        return 0;
    const auto read = [](void* page) {
        return std::atomic_ref<std::uint64_t>(*static_cast<std::uint64_t*>(page)).load(std::memory_order_relaxed);
    };
    const auto consumed = read(consumer_), produced = read(producer_);
    return produced > consumed ? produced - consumed : 0;
}

Result<std::unique_ptr<Rings>> Rings::open(int flow_ring, int deny_ring)
{
    std::unique_ptr<Rings> rings(new Rings);
    rings->flows_.reset(ring_buffer__new(flow_ring, &Rings::on_record, rings.get(), nullptr));
    if (!rings->flows_)
        return fail_errno(errno, "open the flow ring");
    rings->denials_.reset(ring_buffer__new(deny_ring, &Rings::on_record, rings.get(), nullptr));
    if (!rings->denials_)
        return fail_errno(errno, "open the denial ring");
    rings->flow_positions_ = Positions(flow_ring);
    rings->deny_positions_ = Positions(deny_ring);
    return rings;
}

int Rings::on_record(void* self, void* data, std::size_t size)
{
    auto& rings = *static_cast<Rings*>(self);
    bh_event event{};
    if (size != sizeof(event)) {
        log_error("a ring holds a record of {} bytes, not {}: skipped", size, sizeof(event));
        return 0;
    }
    std::memcpy(&event, data, sizeof(event));
    ++rings.delivered_;
    (*rings.sink_)(event);
    return 0;
}

Result<std::size_t> Rings::drain()
{
    const std::uint64_t before = delivered_;
    for (ring_buffer* ring : {flows_.get(), denials_.get()})
        if (const int result = ring_buffer__consume(ring); result < 0 && result != -EINTR)
            return fail_errno(-result, "read a ring");
    return static_cast<std::size_t>(delivered_ - before);
}

Result<std::size_t> Rings::consume(const Datapath::EventSink& sink, std::chrono::milliseconds timeout)
{
    using Clock = std::chrono::steady_clock;
    const auto deadline = Clock::now() + timeout;
    sink_ = &sink;
    while (true) {
        BULKHEAD_TRY(const std::size_t delivered, drain());
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
        if (delivered > 0 || left.count() <= 0)
            return delivered;
        pollfd waiting{ring_buffer__epoll_fd(denials_.get()), POLLIN, 0};
        if (::poll(&waiting, 1, static_cast<int>(std::min(left, flow_poll_period).count())) < 0 && errno != EINTR)
            return fail_errno(errno, "wait for the denial ring");
    }
}

} // namespace bulkhead::agent
