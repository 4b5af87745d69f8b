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

private:
    Rings() = default;
    static int on_record(void* self, void* data, std::size_t size);
    [[nodiscard]] Result<std::size_t> drain();

    Ring flows_, denials_;
    const Datapath::EventSink* sink_ = nullptr; // during a consume()
    std::uint64_t delivered_ = 0;
};

} // namespace bulkhead::agent
