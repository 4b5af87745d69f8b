// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"
#include "agent/events/flow_assembler.h"
#include "common/core/fair_mutex.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

namespace bulkhead::agent {

// Drains the kernel's rings into the flow assembler in a thread of its own, so that building a large policy never makes
// a ring overflow. Everything else reaches the assembler through here. Thread-safe.
class EventThread {
public:
    // Called on the event thread for a connection from outside that was completed although the policy in force denies
    // it: its SYN came before the switch, so that neither the door nor the walk over live sessions met it.
    using LateConnection = std::function<void(const bh_event&)>;

    // Called with the assembler locked, when it was used, and before events are taken out of the rings: to write what
    // it has emitted.
    using Flush = std::function<void()>;

    // Borrows both.
    EventThread(Datapath& datapath, FlowAssembler& assembler, Flush flush, LateConnection on_late_connection)
        : datapath_(datapath), assembler_(assembler), flush_(std::move(flush)),
          on_late_connection_(std::move(on_late_connection))
    {}
    ~EventThread() { stop(); }
    EventThread(const EventThread&) = delete;
    EventThread& operator=(const EventThread&) = delete;

    void start();
    void stop(); // drains what is there, then ends

    // Counts what the thread has done: a number that stands still for long is a thread that hangs.
    [[nodiscard]] std::uint64_t passes() const { return passes_.load(std::memory_order_relaxed); }

    // Called on the event thread when somebody hears in a network namespace that is not followed. Before start().
    using Unfollowed = std::function<void(const NamespaceHint&)>;
    void on_unfollowed(Unfollowed tell) { on_unfollowed_ = std::move(tell); }

    // True once after each time that a listener went: what the kernel knows of a shared port may be out of date.
    [[nodiscard]] bool take_listener_gone() { return listener_gone_.exchange(false, std::memory_order_relaxed); }

    template <typename Use>
    auto with(Use use) -> decltype(use(std::declval<FlowAssembler&>()))
    {
        const std::lock_guard lock(mutex_);
        const FlushAtEnd at_end{flush_};
        return use(assembler_);
    }

private:
    struct FlushAtEnd {
        const Flush& flush;
        explicit FlushAtEnd(const Flush& what) : flush(what) {}
        FlushAtEnd(const FlushAtEnd&) = delete;
        FlushAtEnd& operator=(const FlushAtEnd&) = delete;
        ~FlushAtEnd() { flush(); }
    };

    std::size_t drain(std::chrono::milliseconds timeout);
    void run(const std::stop_token& stop);

    Datapath& datapath_;
    FlowAssembler& assembler_;
    Flush flush_;
    LateConnection on_late_connection_;
    Unfollowed on_unfollowed_ = [](const NamespaceHint&) {};
    FairMutex mutex_; // an event may take as long as a disk or a directory server; nobody waits for more than one
    std::atomic<std::uint64_t> passes_{0};
    std::atomic<bool> listener_gone_{false};
    std::string error_; // the last one that was logged
    std::jthread thread_;
};

} // namespace bulkhead::agent
