// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/datapath/ring_reader.h"

#include <chrono>
#include <memory>
#include <utility>

namespace bulkhead::agent {

// Reads both rings. One thread.
class Rings {
public:
    static Result<std::unique_ptr<Rings>> open(int flow_ring, int deny_ring);
    Rings(const Rings&) = delete;
    Rings& operator=(const Rings&) = delete;

    // See Datapath::consume.
    [[nodiscard]] Result<std::size_t> consume(const Datapath::EventSink& sink, const Datapath::Settle& settle,
                                              std::chrono::milliseconds timeout);

    // Bytes that wait to be read.
    struct Use {
        std::uint64_t flow_bytes = 0, deny_bytes = 0;
    };
    [[nodiscard]] Use use() const { return {flows_.unread(), denials_.unread()}; }

private:
    Rings(RingReader flows, RingReader denials) : flows_(std::move(flows)), denials_(std::move(denials)) {}
    [[nodiscard]] Result<std::size_t> drain(const Datapath::EventSink& sink, const Datapath::Settle& settle);

    RingReader flows_, denials_;
};

} // namespace bulkhead::agent
