// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "common/tls/signature.h"
#include "controller/distribute/agent_link.h"
#include "controller/inventory/inventory.h"
#include "controller/policy/policy_book.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
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
    // Borrows all but the last for its life.
    Distributor(PolicyBook& book, Inventory& inventory, ControlStore& store, const Clock& clock, tls::Signer signer);
    ~Distributor();

    void start();
    void stop(); // closes all streams

    // From the streams.
    void on_message(const std::shared_ptr<AgentLink>& link, v1::AgentMessage message);
    void on_gone(const std::shared_ptr<AgentLink>& link);

    void inventory_changed();                             // agents or labels: rebuild soon
    void drop(const std::vector<std::string>& agent_ids); // their certificates are no longer accepted

    void quarantine_changed(const std::string& workload); // tells its agent, if it is connected

    // Waits until the newest answer of every agent that is connected now is `wanted`, it has gone, or the time is over.
    using Wanted = std::function<bool(const v1::PolicyResult&)>;
    std::vector<v1::AgentResult> wait_for_answers(const Wanted& wanted, std::chrono::milliseconds timeout);
    // Waits until the workload's agent tells that the controller's hold on it is `held`; false when it is not connected
    // or does not tell in time.
    bool wait_for_quarantine(const std::string& workload, bool held, std::chrono::milliseconds timeout);

private:
    using State = std::shared_ptr<const wire::HostState>;
    using Monotonic = std::chrono::steady_clock::time_point;

    enum class Sent { nothing, for_good, on_trial, confirmation };
    struct Session {
        std::shared_ptr<AgentLink> link;
        State held;    // what the agent said it has; null: not known, it needs a snapshot
        // The last two that it refused, which are not sent again: in a trial it may refuse both. Others of the same
        // policy version wait, each time twice as long: an agent that refuses one for its kind refuses them all.
        std::vector<State> refused;
        Monotonic again_at;
        std::chrono::seconds pause{1};
        // The agent's last word: what it goes back to when the trial ends, and which versions those are.
        State confirmed;
        std::uint64_t confirmed_version = 0, trial_version = 0, lapsed_version = 0; // 0: none
        bool tells_standing = false;
        Sent sent = Sent::nothing; // and not answered
        State in_flight;           // null for a confirmation
        std::uint64_t in_flight_generation = 0, in_flight_version = 0;
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
    struct QuarantineChanged {
        std::string workload;
    };
    using Event = std::variant<Message, Gone, Drop, QuarantineChanged>;
    struct Prepared {
        std::shared_ptr<const v1::ControllerMessage> message; // null: there is nothing to say
        Monotonic made_at;
    };

    void run();
    [[nodiscard]] Monotonic next_deadline() const;
    void post(Event event);
    void handle(Message& event);
    void handle(const Gone& event);
    void handle(const Drop& event);
    void handle(const QuarantineChanged& event);
    void on_hello(const std::shared_ptr<AgentLink>& link, const v1::Hello& hello);
    void on_result(Session& session, v1::PolicyResult result);
    void on_confirmation_answered(Session& session, const v1::PolicyResult& result);
    void on_update_answered(Session& session, const v1::PolicyResult& result);
    void on_status(Session& session, const v1::HostStatus& status);
    void on_standing(Session& session, const v1::Standing& standing);
    void note_answer(const std::string& agent_id, const v1::PolicyResult& result);
    void note_standing(const std::string& agent_id, const v1::Standing& standing);
    void refresh_if_due();
    void report_contests(const World& world);
    void push_all();
    void push(Session& session);
    void send(Session& session, const World& world, const State& target, const std::optional<TrialTerms>& trial);
    void send_confirmation(Session& session);
    void send_quarantine(const std::shared_ptr<AgentLink>& link, bool to_be_told);
    [[nodiscard]] static bool is_held_back(const Session& session, const State& state);
    static void note_refusal(Session& session, const State& state);
    void look_after_silent();
    void look_after_refusing();
    void look_after_quarantines();
    void flush_if_due();
    [[nodiscard]] std::shared_ptr<const v1::ControllerMessage>
    message_for(const State& from, const World& world, const State& to, const std::optional<TrialTerms>& trial);
    Result<std::string> signature_of(const World& world, const State& state);

    PolicyBook& book_;
    Inventory& inventory_;
    ControlStore& store_;
    const Clock& clock_;
    const tls::Signer signer_;
    std::thread thread_;

    // The thread's own.
    std::map<std::string, Session> sessions_; // by agent id; only those that have said hello
    std::unordered_map<std::string, State> last_held_;
    std::map<std::pair<State, State>, Prepared> messages_;
    std::unordered_map<State, std::string> signatures_;
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
    std::map<std::string, v1::Standing> standings_;   // the same
    std::set<std::string> present_;                   // agents with a session
};

} // namespace bulkhead::controller
