// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "controller/distribute/agent_link.h"
#include "controller/inventory/inventory.h"
#include "controller/policy/policy_book.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <unordered_map>
#include <variant>
#include <vector>

namespace bulkhead::controller {

// Brings every connected agent to the world in force. One thread does it all; streams hand it what they read. At most
// one update is under way to an agent: until it answers, newer worlds wait and the newest is sent then. So a slow agent
// costs nobody anything.
class Distributor {
public:
    Distributor(PolicyBook& book, Inventory& inventory, ControlStore& store, const Clock& clock);
    ~Distributor();

    void start();
    void stop(); // closes all streams

    // From the streams.
    void on_message(const std::shared_ptr<AgentLink>& link, v1::AgentMessage message);
    void on_gone(const std::shared_ptr<AgentLink>& link);

    void inventory_changed();                             // agents or labels: rebuild soon
    void drop(const std::vector<std::string>& agent_ids); // their certificates are no longer accepted

    // Waits until every agent that is connected now has answered for `version`, has gone, or the time is over.
    std::vector<v1::AgentResult> wait_for_answers(std::uint64_t version, std::chrono::milliseconds timeout);

private:
    using State = std::shared_ptr<const wire::HostState>;
    using Monotonic = std::chrono::steady_clock::time_point;

    struct Session {
        std::shared_ptr<AgentLink> link;
        State held;      // what the agent said it has; null: not known, it needs a snapshot
        State in_flight; // sent, not answered
        State refused;   // not sent again by itself
        bool in_flight_is_snapshot = false;
        Monotonic sent_at;
    };
    struct Message {
        std::shared_ptr<AgentLink> link;
        v1::AgentMessage message;
    };
    struct Gone {
        std::shared_ptr<AgentLink> link;
    };
    struct Drop {
        std::string agent_id;
    };
    using Event = std::variant<Message, Gone, Drop>;

    void run();
    [[nodiscard]] Monotonic next_deadline() const;
    void post(Event event);
    void handle(Message& event);
    void handle(const Gone& event);
    void handle(const Drop& event);
    void on_hello(const std::shared_ptr<AgentLink>& link, const v1::Hello& hello);
    void on_result(Session& session, v1::PolicyResult result);
    void note_answer(const std::string& agent_id, const v1::PolicyResult& result);
    void refresh_if_due();
    void report_contests(const World& world);
    void push_all();
    void push(Session& session);
    void send(Session& session, const State& target);
    void look_after_silent();
    void flush_if_due();
    [[nodiscard]] std::shared_ptr<const v1::ControllerMessage> message_for(const State& from, const State& to);

    PolicyBook& book_;
    Inventory& inventory_;
    ControlStore& store_;
    const Clock& clock_;
    std::thread thread_;

    // The thread's own.
    std::map<std::string, Session> sessions_; // by agent id; only those that have said hello
    std::unordered_map<std::string, State> last_held_;
    std::map<std::pair<State, State>, std::shared_ptr<const v1::ControllerMessage>> messages_;
    std::shared_ptr<const World> world_;
    std::set<ContestedAddress> contested_;
    Monotonic flushed_at_;

    std::mutex mutex_; // guards what follows
    std::condition_variable wake_;
    std::deque<Event> events_;
    std::optional<Monotonic> refresh_at_;
    bool world_changed_ = false;
    bool stopping_ = false;

    std::mutex answers_mutex_;
    std::condition_variable answered_;
    std::map<std::string, v1::PolicyResult> answers_; // newest of each agent
    std::set<std::string> present_;                   // agents with a session
};

} // namespace bulkhead::controller
