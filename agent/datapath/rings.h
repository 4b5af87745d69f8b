// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"

#include <chrono>
#include <memory>

namespace bulkhead::agent {

// Reads both rings. One thread.
class Rings {
public:
    static Result<std::unique_ptr<Rings>> open(int flow_ring, int deny_ring);
    Rings(const Rings&) = delete;
    Rings& operator=(const Rings&) = delete;

    // See Datapath::consume.
    [[nodiscard]] Result<std::size_t> consume(const Datapath::EventSink& sink, std::chrono::milliseconds timeout);

    // Bytes that wait to be read.
    struct Use {
        std::uint64_t flow_bytes = 0, deny_bytes = 0;
    };
    [[nodiscard]] Use use() const { return {flow_positions_.unread(), deny_positions_.unread()}; }

private:
    // Where reader and writers are: the first two pages of a ring (kernel/bpf/ringbuf.c).
    class Positions {
    public:
        Positions() = default;
        explicit Positions(int ring);
        Positions(Positions&& other) noexcept;
        Positions& operator=(Positions&& other) noexcept;
        ~Positions();
        [[nodiscard]] std::uint64_t unread() const; // 0 also where it cannot be known
    private:
        void* consumer_ = nullptr;
        void* producer_ = nullptr;
    };
    Rings() = default;
    static int on_record(void* self, void* data, std::size_t size);
    [[nodiscard]] Result<std::size_t> drain();

    Ring flows_, denials_;
    Positions flow_positions_, deny_positions_;
    const Datapath::EventSink* sink_ = nullptr; // during a consume()
    std::uint64_t delivered_ = 0;
};

} // namespace bulkhead::agent
