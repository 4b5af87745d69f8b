// SPDX-License-Identifier: Apache-2.0
#include "agent/events/flow_assembler.h"

#include "agent/events/conversations.h"
#include "agent/events/exchanges.h"
#include "agent/events/flow_table.h"
#include "agent/events/judgement.h"
#include "agent/events/listener_owners.h"
#include "agent/events/record_composer.h"
#include "agent/events/stray_segments.h"
#include "agent/events/violations.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <array>
#include <unordered_set>

namespace bulkhead::agent {
namespace {

constexpr auto update_every = std::chrono::minutes(5);
constexpr auto answer_within = std::chrono::minutes(2); // TCP gives up a SYN after about that (tcp_syn_retries 6)
constexpr auto sweep_every = std::chrono::seconds(2);
constexpr auto close_grace = std::chrono::seconds(10); // from the end of a socket to its close event, at the most

// As ss(8) and RFC 9293 name them.
std::string tcp_state_name(std::uint8_t state)
{
    static constexpr std::array<const char*, 13> names{
        "",       "established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2",  "time-wait",
        "closed", "close-wait",  "last-ack", "listen",       "closing",    "syn-received"};
    return state < names.size() ? names[state] : "";
}

std::int64_t seconds_of(MonotonicTime time)
{
    return std::chrono::floor<std::chrono::seconds>(time).count();
}

// A connect() that has passed its door and waits for the peer's answer.
struct Departure {
    MonotonicTime at{}; // or when a walk last showed that it goes on
    SharedProcess process;
    SharedAttribution words;
};

class KernelFlowAssembler final : public FlowAssembler {
public:
    KernelFlowAssembler(const Clock& clock, ProcessTable& processes, Emit emit, std::size_t flow_limit)
        : clock_(clock), limit_(flow_limit), records_(clock, std::move(emit)), names_(processes, clock),
          flows_(flow_limit), conversations_(flows_, clock.monotonic()), violations_(clock, records_, flows_, strays_),
          exchanges_(records_, flow_limit)
    {}

    void set_policy(std::shared_ptr<const PolicyView> view) override { records_.words().add(std::move(view)); }
    void set_host(HostIdentity host) override { records_.set_host(std::move(host)); }
    void on_event(const bh_event& event) override;
    void tick(const std::map<std::string, std::uint64_t>& kernel_counters,
              const std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>& udp_flows) override;
    void on_denials(std::span<const bh_denial> denials) override;
    void on_exchanges(const KernelExchanges& exchanges) override { exchanges_.note(exchanges, clock_.monotonic()); }
    [[nodiscard]] bool wants_exchanges() const override { return exchanges_.any(); }
    void on_walk(std::span<const WalkedSocket> sockets) override;
    [[nodiscard]] bool wants_walk() const override { return next_update_ && *next_update_ <= clock_.monotonic(); }
    void set_loss_baseline(const std::map<std::string, std::uint64_t>& counters) override { reported_loss_ = counters; }
    [[nodiscard]] std::optional<policy::Direction> direction_of(const bh_walked_socket& socket) const override;
    void on_cut(const bh_walked_socket& socket, policy::Direction direction, const bh_judge_request& verdict,
                const bh_subject& owner) override;
    [[nodiscard]] std::size_t open_flows() const override { return flows_.size(); }
    [[nodiscard]] std::map<std::string, std::uint64_t> counters() const override;

private:
    void on_connect(const bh_event& event);
    void on_established(const bh_event& event);
    void on_close(const bh_event& event);
    void on_conversation(const bh_event& event);
    void on_udp_close(const bh_event& event);

    [[nodiscard]] FlowId make_id(const FlowKey& key, const FlowTuple& tuple, std::uint64_t salt) const
    {
        return make_flow_id(records_.host().boot_id, records_.host().agent_id, key, tuple, salt);
    }
    [[nodiscard]] Flow new_flow(const bh_event& event, const FlowKey& key, std::uint64_t salt) const;
    [[nodiscard]] Flow flow_of_unknown(const bh_event& event);
    [[nodiscard]] SharedProcess process_of(const bh_event& event);
    [[nodiscard]] SharedProcess process_of(const ListenerOwners::Owner& listener);
    [[nodiscard]] FlowTuple ends_of(const bh_event& event) const { return tuple_of(event, records_.host().netns); }
    [[nodiscard]] const ListenerOwners::Owner* listener_of(const bh_event& event) const;
    void open(const FlowKey& key, Flow flow);
    void close(const Flow& flow, MonotonicTime at, const bh_event* totals);
    void adopt(const FlowKey& key, const FlowTuple& tuple, const bh_udp_flow& conversation);
    void sweep(MonotonicTime now);
    [[nodiscard]] bool ended_unheard(const FlowKey& key, Flow& flow, MonotonicTime now);
    void report_kernel_loss(const std::map<std::string, std::uint64_t>& counters);

    const Clock& clock_;
    std::size_t limit_;
    RecordComposer records_;
    ProcessNames names_;
    FlowTable flows_;
    Conversations conversations_;
    ListenerOwners listeners_;
    StraySegments strays_;
    Violations violations_;
    Exchanges exchanges_;
    std::unordered_map<std::uint64_t, Departure> departures_; // by cookie
    std::optional<MonotonicTime> swept_, next_update_;
    std::map<std::string, std::uint64_t> reported_loss_;
    std::uint64_t opened_ = 0, closed_ = 0, untracked_ = 0, unanswered_ = 0;
    std::uint64_t reported_untracked_ = 0;
};

void KernelFlowAssembler::on_event(const bh_event& event)
{
    switch (event.type) {
    case BH_EVENT_CONNECT: event.protocol == IPPROTO_UDP ? on_conversation(event) : on_connect(event); break;
    case BH_EVENT_ESTABLISHED: on_established(event); break;
    case BH_EVENT_CLOSE: on_close(event); break;
    case BH_EVENT_UDP_OPEN: on_conversation(event); break;
    case BH_EVENT_UDP_CLOSE: on_udp_close(event); break;
    case BH_EVENT_EXCHANGE: exchanges_.on_first(event, process_of(event)); break;
    case BH_EVENT_DENY: violations_.on_first(event, process_of(event)); break;
    case BH_EVENT_LISTEN: listeners_.listening(event, ends_of(event).netns, names_.describe(event.subject)); break;
    case BH_EVENT_UNLISTEN: listeners_.gone(event, ends_of(event).netns); break;
    default: break; // of a newer kernel side: nothing that we could say of it
    }
}

SharedProcess KernelFlowAssembler::process_of(const bh_event& event)
{
    if (event.subject.pid != 0 || event.direction != BH_INBOUND)
        return names_.describe(event.subject);
    const auto* listener = listener_of(event);
    return listener == nullptr ? nullptr : process_of(*listener);
}

SharedProcess KernelFlowAssembler::process_of(const ListenerOwners::Owner& listener)
{
    return listener.process ? listener.process : names_.describe(listener.subject);
}

const ListenerOwners::Owner* KernelFlowAssembler::listener_of(const bh_event& event) const
{
    const auto ends = ends_of(event);
    return listeners_.find(ends.netns, ends.protocol, ends.local, ends.local_port);
}

void KernelFlowAssembler::on_denials(std::span<const bh_denial> denials)
{
    for (const auto& denial : denials)
        violations_.on_count(denial, process_of(denial.first));
}

Flow KernelFlowAssembler::new_flow(const bh_event& event, const FlowKey& key, std::uint64_t salt) const
{
    Flow flow;
    flow.tuple = ends_of(event);
    flow.direction = direction_of_event(event);
    flow.id = make_id(key, flow.tuple, salt);
    flow.opened = flow.last = time_of(event);
    flow.next_update = *flow.opened + update_every;
    return flow;
}

void KernelFlowAssembler::open(const FlowKey& key, Flow flow)
{
    ++opened_;
    records_.emit(records_.flow(flow, v1::Record::OPEN, *flow.opened));
    if (!next_update_)
        next_update_ = flow.next_update;
    if (flows_.insert(key, std::move(flow)) == nullptr)
        ++untracked_;
}

void KernelFlowAssembler::close(const Flow& flow, MonotonicTime at, const bh_event* totals)
{
    ++closed_;
    auto record = records_.flow(flow, v1::Record::CLOSE, at);
    if (totals != nullptr) {
        record.set_bytes_out(totals->bytes_out);
        record.set_bytes_in(totals->bytes_in);
        record.set_packets_out(totals->packets_out);
        record.set_packets_in(totals->packets_in);
        record.mutable_tcp()->set_state(tcp_state_name(totals->tcp_state));
        record.mutable_tcp()->set_rtt_us(totals->rtt_us);
        record.mutable_tcp()->set_retransmits(totals->retransmits);
    }
    records_.emit(std::move(record));
}

void KernelFlowAssembler::on_connect(const bh_event& event)
{
    auto process = names_.describe(event.subject); // now: a short-lived process is gone when the peer answers
    auto words = records_.attribute(judgement_of(event));
    if (const auto earlier = departures_.find(event.cookie); earlier != departures_.end()) {
        ++unanswered_; // the socket tries again
        earlier->second = {time_of(event), std::move(process), std::move(words)};
    } else if (departures_.size() < limit_) {
        departures_.emplace(event.cookie, Departure{time_of(event), std::move(process), std::move(words)});
    } else {
        ++untracked_;
    }
}

void KernelFlowAssembler::on_established(const bh_event& event)
{
    const auto key = FlowKey::tcp(event.cookie);
    if (const auto* old = flows_.find(key)) { // its close was lost, and the socket connected again
        const auto ended = *old;
        flows_.erase(key);
        close(ended, time_of(event), nullptr);
    }
    auto flow = new_flow(event, key, 0);
    if (event.direction == BH_INBOUND) {
        flow.process = process_of(event);
        if (event.guessed == 0)
            flow.words = records_.attribute(judgement_of(event));
    } else if (const auto departure = departures_.find(event.cookie); departure != departures_.end()) {
        flow.process = std::move(departure->second.process);
        flow.words = std::move(departure->second.words);
        departures_.erase(departure);
    } else {
        flow.process = process_of(event);
    }
    open(key, std::move(flow));
}

// The close of a connection that was never seen to open: older than the agent, untracked, or its open was lost. The
// event does not say who began; a listener on the local port does.
Flow KernelFlowAssembler::flow_of_unknown(const bh_event& event)
{
    auto flow = new_flow(event, FlowKey::tcp(event.cookie), 0);
    flow.opened.reset();
    const auto* listener = listener_of(event);
    flow.direction = listener != nullptr ? policy::Direction::inbound : policy::Direction::outbound;
    if (listener != nullptr)
        flow.process = process_of(*listener);
    return flow;
}

void KernelFlowAssembler::on_close(const bh_event& event)
{
    const auto key = FlowKey::tcp(event.cookie);
    const auto* known = flows_.find(key);
    auto flow = known != nullptr ? *known : flow_of_unknown(event);
    flows_.erase(key);
    if (known == nullptr) {
        if (const auto departure = departures_.find(event.cookie); departure != departures_.end()) {
            departures_.erase(departure); // its peer never answered
            ++unanswered_;
            strays_.ended(flow.tuple, clock_.monotonic());
            return;
        }
    }
    if (flow.direction == policy::Direction::outbound)
        strays_.ended(flow.tuple, clock_.monotonic());
    close(flow, time_of(event), &event);
}

void KernelFlowAssembler::on_conversation(const bh_event& event)
{
    // A socket that was connected to answer has a flow of its own, beside that of what was heard: it has another end.
    const bool answers = event.type == BH_EVENT_CONNECT && event.direction == BH_INBOUND;
    const auto key = FlowKey::udp(answers ? std::uint8_t{BH_OUTBOUND} : event.direction, event.cookie, ends_of(event));
    auto flow = new_flow(event, key, event.time_ns / 1'000'000'000);
    flow.answers = answers;
    if (const auto* heard = flows_.find(FlowKey::udp(BH_INBOUND, 0, flow.tuple));
        answers && heard != nullptr && !heard->tuple.local.is_unspecified())
        flow.tuple.local = heard->tuple.local; // the socket's own may be any until the kernel has connected it
    // Idle for so long that this is a new one, or another process has the port, or has had it meanwhile.
    if (const auto* old = flows_.find(key)) {
        const auto ended = *old;
        flows_.erase(key);
        close(ended, ended.last, nullptr);
        // Within the same second; what is older than the agent has begun before.
        if (ended.opened && seconds_of(*ended.opened) == seconds_of(*flow.opened))
            flow.id = make_id(key, flow.tuple, event.time_ns);
    }
    if (event.listed != 0)
        flow.listed = clock_.monotonic();
    flow.process = process_of(event);
    flow.words = records_.attribute(judgement_of(event));
    open(key, std::move(flow));
}

void KernelFlowAssembler::on_udp_close(const bh_event& event)
{
    for (const auto& key : flows_.udp_of(event.cookie)) {
        auto flow = *flows_.find(key);
        flows_.erase(key);
        if (flow.tuple.remote == to_ip(event.remote) && flow.tuple.remote_port == event.remote_port)
            flow.tuple = ends_of(event); // by now it has a local address
        close(flow, time_of(event), nullptr);
    }
}

void KernelFlowAssembler::on_cut(const bh_walked_socket& socket, policy::Direction direction,
                                 const bh_judge_request& verdict, const bh_subject& owner)
{
    const auto tuple = tuple_of(socket, records_.host().netns);
    const auto key =
        socket.protocol == IPPROTO_UDP ? FlowKey::udp(BH_OUTBOUND, socket.cookie, tuple) : FlowKey::tcp(socket.cookie);
    auto* flow = flows_.find(key);
    Flow unknown;
    if (flow == nullptr) {
        unknown.tuple = tuple;
        unknown.direction = direction;
        unknown.id = make_id(key, tuple, 0);
        unknown.last = clock_.monotonic();
        flow = flows_.insert(key, unknown);
    }
    const bool tracked = flow != nullptr;
    if (!tracked)
        flow = &unknown;
    flow->cut = clock_.monotonic();
    flow->words = records_.attribute(judgement_of(verdict));
    if (socket.protocol == IPPROTO_TCP) {
        flow->bytes_out = socket.bytes_out;
        flow->bytes_in = socket.bytes_in;
    }
    if (!flow->process)
        flow->process = names_.describe(owner);
    if (!tracked)
        close(unknown, *unknown.cut, nullptr);
}

std::optional<policy::Direction> KernelFlowAssembler::direction_of(const bh_walked_socket& socket) const
{
    const auto key = socket.protocol == IPPROTO_UDP
                         ? FlowKey::udp(BH_OUTBOUND, socket.cookie, tuple_of(socket, records_.host().netns))
                         : FlowKey::tcp(socket.cookie);
    if (const auto* flow = flows_.find(key))
        return flow->direction;
    return departures_.contains(socket.cookie) ? std::optional(policy::Direction::outbound) : std::nullopt;
}

void KernelFlowAssembler::adopt(const FlowKey& key, const FlowTuple& tuple, const bh_udp_flow& conversation)
{
    Flow flow;
    flow.tuple = tuple;
    flow.direction = static_cast<policy::Direction>(conversation.direction);
    flow.opened = MonotonicTime(static_cast<std::int64_t>(conversation.opened_ns));
    flow.next_update = clock_.monotonic() + update_every;
    flow.id = make_id(key, flow.tuple, conversation.opened_ns / 1'000'000'000);
    flow.process = names_.describe(conversation.subject);
    flows_.insert(key, std::move(flow));
}

void KernelFlowAssembler::on_walk(std::span<const WalkedSocket> sockets)
{
    listeners_.replace(sockets, records_.host().netns);
    std::unordered_map<std::uint64_t, const bh_walked_socket*> by_cookie;
    for (const auto& walked : sockets)
        by_cookie.emplace(walked.socket.cookie, &walked.socket);
    const auto now = clock_.monotonic();
    // Calls later than TCP itself would give up: with TCP_FASTOPEN_CONNECT the first write(2) sends the SYN.
    // Not where they take others' room.
    for (auto& [cookie, departure] : departures_)
        if (const auto found = by_cookie.find(cookie); departures_.size() < limit_ / 2 && found != by_cookie.end() &&
                                                       found->second->protocol == IPPROTO_TCP &&
                                                       found->second->state == TCP_SYN_SENT)
            departure.at = now;
    flows_.erase_when([&](const FlowKey& key, Flow& flow) {
        if (key.cookie == 0)
            return false;
        if (const auto found = by_cookie.find(key.cookie); found != by_cookie.end()) {
            flow.missing.reset();
            flow.walked = true;
            if (key.protocol == IPPROTO_TCP) {
                flow.bytes_out = found->second->bytes_out;
                flow.bytes_in = found->second->bytes_in;
            }
        } else if (flow.walked && !flow.missing) { // a walk does not reach sockets of other network namespaces
            flow.missing = now;
        }
        return false;
    });
}

// Ends that no event told of, or whose event was lost.
bool KernelFlowAssembler::ended_unheard(const FlowKey& key, Flow& flow, MonotonicTime now)
{
    std::optional<MonotonicTime> ended;
    if (flow.cut && now - *flow.cut > close_grace)
        ended = flow.cut;
    else if (flow.missing && now - *flow.missing > close_grace)
        ended = flow.missing;
    else if (key.protocol == IPPROTO_UDP)
        ended = conversations_.end_of(flow, now);
    if (!ended)
        return false;
    if (key.protocol == IPPROTO_TCP && flow.direction == policy::Direction::outbound)
        strays_.ended(flow.tuple, now);
    close(flow, *ended, nullptr);
    return true;
}

void KernelFlowAssembler::sweep(MonotonicTime now)
{
    swept_ = now;
    next_update_.reset();
    flows_.erase_when([&](const FlowKey& key, Flow& flow) {
        if (ended_unheard(key, flow, now))
            return true;
        if (now >= flow.next_update && flow.opened) {
            records_.emit(records_.flow(flow, v1::Record::UPDATE, now));
            flow.next_update = now + update_every;
        }
        if (flow.opened && (!next_update_ || flow.next_update < *next_update_))
            next_update_ = flow.next_update;
        return false;
    });
    unanswered_ +=
        std::erase_if(departures_, [now](const auto& entry) { return now - entry.second.at > answer_within; });
    strays_.expire(now);
}

void KernelFlowAssembler::report_kernel_loss(const std::map<std::string, std::uint64_t>& counters)
{
    std::uint64_t lost = 0;
    for (const auto& [name, value] : counters) {
        if (name.find("lost") == std::string::npos)
            continue;
        auto& reported = reported_loss_[name];
        lost += value >= reported ? value - reported : value; // fewer: the maps were made anew
        reported = value;
    }
    if (lost > 0)
        records_.emit(records_.gap(lost, "kernel"));
}

void KernelFlowAssembler::tick(const std::map<std::string, std::uint64_t>& kernel_counters,
                               const std::vector<std::pair<bh_udp_flow_key, bh_udp_flow>>& udp_flows)
{
    records_.set_wall_offset();
    report_kernel_loss(kernel_counters);
    const auto now = clock_.monotonic();
    conversations_.note(
        udp_flows, records_.host().netns, now,
        [this](const auto& key, const auto& tuple, const auto& conversation) { adopt(key, tuple, conversation); });
    if (!swept_ || now - *swept_ >= sweep_every)
        sweep(now);
    if (untracked_ > reported_untracked_) {
        records_.emit(records_.gap(untracked_ - reported_untracked_, "agent"));
        reported_untracked_ = untracked_;
    }
}

std::map<std::string, std::uint64_t> KernelFlowAssembler::counters() const
{
    return {{"flows_opened", opened_},
            {"flows_closed", closed_},
            {"flows_untracked", untracked_},
            {"stray_segments", violations_.strays()},
            {"connects_unanswered", unanswered_},
            {"violations", violations_.attempts()}};
}

} // namespace

std::unique_ptr<FlowAssembler> make_flow_assembler(const Clock& clock, ProcessTable& processes,
                                                   FlowAssembler::Emit emit, std::size_t flow_limit)
{
    return std::make_unique<KernelFlowAssembler>(clock, processes, std::move(emit), flow_limit);
}

} // namespace bulkhead::agent
