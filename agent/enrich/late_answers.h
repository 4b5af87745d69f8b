// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/enrich/time_budget.h"
#include "common/core/clock.h"

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <utility>

namespace bulkhead::agent {

// What is asked of somebody who may take very long or, for a while, not know. Asked in threads of its own: whoever
// wants to know waits a little, and goes on with what was answered the last time. Not thread-safe.
template <typename Key, typename Answer>
class LateAnswers {
public:
    // nullopt: it cannot be said now. Runs in other threads, several at once, also when this is gone.
    using Ask = std::function<std::optional<Answer>(const Key&)>;
    struct Patience {
        std::chrono::milliseconds for_one; // once for each time that it is asked
        std::chrono::milliseconds for_all; // within `within`
        std::chrono::seconds within;
    };
    LateAnswers(const Clock& clock, Ask ask, Patience patience)
        : clock_(clock), patience_(patience), waiting_(clock, {patience.for_all, patience.for_all, patience.within}),
          state_(std::make_shared<State>(std::move(ask)))
    {}
    ~LateAnswers() // leaves behind what is held up
    {
        const std::lock_guard lock(state_->mutex);
        state_->stopped = true;
        state_->changed.notify_all();
    }
    LateAnswers(const LateAnswers&) = delete;
    LateAnswers& operator=(const LateAnswers&) = delete;

    // nullopt: nobody has ever said.
    [[nodiscard]] std::optional<Answer> get(const Key& key)
    {
        std::unique_lock lock(state_->mutex);
        make_room();
        auto& entry = state_->entries[key];
        const auto now = clock_.monotonic();
        if (!entry.is_asked &&
            (!entry.asked_at || now - *entry.asked_at >= (entry.has_failed ? again_after : kept_for)))
            ask(key, entry, now);
        if (entry.is_asked && !std::exchange(entry.was_waited_for, true) && waiting_.has_some_for(0)) {
            state_->changed.wait_for(lock, patience_.for_one, [&entry] { return !entry.is_asked; });
            waiting_.spend(0, clock_.monotonic() - now);
        }
        return entry.answer;
    }

    static constexpr std::chrono::seconds kept_for{60};
    static constexpr std::chrono::seconds again_after{5}; // where nobody could say
    static constexpr std::size_t most_kept = 4096;
    static constexpr std::size_t most_asked = 256;
    static constexpr int most_threads = 4;

private:
    struct Entry {
        std::optional<Answer> answer;
        std::optional<MonotonicTime> asked_at;
        bool is_asked = false;
        bool has_failed = false;
        bool was_waited_for = false;
    };
    struct State {
        explicit State(Ask what) : ask(std::move(what)) {}

        void serve()
        {
            std::unique_lock lock(mutex);
            while (true) {
                ++idle;
                changed.wait(lock, [this] { return stopped || !questions.empty(); });
                --idle;
                if (stopped)
                    return;
                const Key key = std::move(questions.front());
                questions.pop_front();
                lock.unlock();
                auto answer = ask(key);
                lock.lock();
                auto& entry = entries[key];
                entry.is_asked = false;
                entry.has_failed = !answer;
                if (answer) // else what was true may be still
                    entry.answer = std::move(answer);
                changed.notify_all();
            }
        }

        const Ask ask;
        std::mutex mutex;
        std::condition_variable changed;
        std::unordered_map<Key, Entry> entries;
        std::deque<Key> questions;
        int threads = 0, idle = 0;
        bool stopped = false;
    };

    void make_room()
    {
        if (state_->entries.size() >= most_kept)
            std::erase_if(state_->entries, [](const auto& one) { return !one.second.is_asked; });
    }
    void ask(const Key& key, Entry& entry, MonotonicTime now)
    {
        if (state_->questions.size() >= most_asked)
            return;
        if (state_->idle <= static_cast<int>(state_->questions.size()) && state_->threads < most_threads) {
            try {
                std::thread([state = state_] { state->serve(); }).detach();
                ++state_->threads;
            } catch (const std::system_error&) { // no more of them; those that there are may come to it
                if (state_->threads == 0)
                    return;
            }
        }
        entry.asked_at = now;
        entry.is_asked = true;
        entry.was_waited_for = false;
        state_->questions.push_back(key);
        state_->changed.notify_all();
    }

    const Clock& clock_;
    Patience patience_;
    TimeBudget waiting_;
    std::shared_ptr<State> state_;
};

} // namespace bulkhead::agent
