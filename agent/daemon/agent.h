// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/config/command_line.h"
#include "agent/daemon/capacity_watch.h"
#include "agent/daemon/control_loop.h"
#include "agent/daemon/enforcer.h"
#include "agent/daemon/event_thread.h"
#include "agent/daemon/folder_policy.h"
#include "agent/daemon/folder_watch.h"
#include "agent/daemon/hint_rounds.h"
#include "agent/daemon/host_watch.h"
#include "agent/daemon/late_connections.h"
#include "agent/daemon/listener_watch.h"
#include "agent/daemon/record_writer.h"
#include "agent/enrich/route_source.h"
#include "agent/local/local_server.h"
#include "agent/metrics/metrics_server.h"
#include "agent/state/reported_losses.h"
#include "agent/uplink/uplink.h"

#include <atomic>
#include <deque>
#include <memory>
#include <set>

namespace bulkhead::agent {

// One running agent: the parts, and who tells whom. All members are used by the control loop's thread unless a comment
// says otherwise.
class Agent final : private UplinkHost {
public:
    // Everything up to a policy in force. On error nothing is attached that was not attached before.
    [[nodiscard]] static Result<std::unique_ptr<Agent>> start(const Invocation& invocation);
    ~Agent() override;
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;

    // Until SIGTERM or SIGINT. Enforcement goes on after it.
    [[nodiscard]] Status run();

private:
    explicit Agent(const Invocation& invocation);

    // Start, in this order.
    Status prepare();
    Status open_state_dir();
    [[nodiscard]] bool something_before() const;
    Status check_uplink_first();
    Status check_folder_first();
    Status open_records();
    Status open_kernel();
    Status bring_into_force();
    Status look_for_changes();
    Status listen_locally();
    void connect_to_controller();

    // What is no reason not to enforce.
    void look_at_state_dir();
    void try_again();
    void watch_folder();
    [[nodiscard]] UplinkOptions uplink_options() const;
    void stop_parts();

    // Policy from a folder.
    void reload_folder(bool say_again);
    void reload_folder_soon();
    [[nodiscard]] bool saved_policy_is_the_folders() const;
    void remember_folder(std::string look);
    [[nodiscard]] OwnWorkload own_workload() const;

    // Policy from a controller (UplinkHost); called from the uplink's threads.
    v1::Hello hello() override;
    v1::HostStatus status() override;
    std::optional<v1::PolicyResult> on_update(const v1::PolicyUpdate& update) override;
    std::optional<v1::PolicyResult> on_confirm(const v1::Confirm& confirm) override;
    void on_quarantine(const v1::QuarantineOrder& order) override;
    void on_identity(const std::string& agent_id, const std::string& authority_pem, bool enrolled_now) override;
    void on_connected(bool connected) override;
    void on_enrolment_refused(const Error& error) override;
    v1::PolicyResult realise_update(const v1::PolicyUpdate& update);
    void tell_update(const v1::PolicyUpdate& update, std::uint64_t version_before, bool trial_before,
                     std::chrono::nanoseconds took);
    v1::PolicyResult confirm_trial(const v1::Confirm& confirm);
    v1::Hello say_hello();

    void on_view(std::shared_ptr<const PolicyView> view);
    void on_cut(const ForbiddenSession& session);
    void follow_interfaces();
    void on_lapse(const Enforcer::Lapse& lapse);

    // Quarantine, from the controller or from the local socket.
    Status set_quarantine(Quarantine next);
    Result<v1::LocalStatus> set_local_quarantine(const v1::LocalQuarantine& wish);
    [[nodiscard]] QuarantineHold new_hold(const std::string& by, const std::string& reason, std::uint64_t left_ms,
                                          const std::optional<QuarantineHold>& before) const;
    [[nodiscard]] v1::Standing standing() const;
    [[nodiscard]] std::uint64_t trial_left_ms() const;
    void look_for_tampering();
    void tell_takeover();
    void look_at_capacity();
    void report_denials();
    void look_for_namespaces();
    void tell_namespace_trouble();
    bool follow_hints(std::span<const NamespaceHint> hints);
    void judge_newcomers(const NamespaceChange& change);
    void await_new_cgroups();
    bool look_for_cgroups();
    void report_flows();
    void walk_sockets();
    void walk_when_due();
    [[nodiscard]] bool walks_rest() const;
    void before_rows_go(std::span<const FacetRow> rows);
    [[nodiscard]] Status remove_programs();
    void refuse(const Error& error, const std::string& object, bool say_again);
    Result<bool> cut_late_connection(const bh_event& event);
    void cut_missed();
    void refresh_host();
    void second_passed();
    void on_signal();
    v1::LocalStatus local_status();
    [[nodiscard]] v1::GuardStatus guard_status() const;
    KernelContents kernel_contents();
    [[nodiscard]] std::string summary() const;
    [[nodiscard]] std::string source_name() const;

    const Clock& clock_;
    const AgentConfig config_;
    const std::string join_token_;
    const std::string hostname_;
    std::string cgroup_, boot_id_, agent_id_;
    std::string authority_pem_; // of the controller; before it is known there are no updates
    UniqueFd state_lock_, cgroup_lock_, signals_;

    std::unique_ptr<ControlLoop> loop_; // thread-safe
    HostWatch host_;
    PolicyState saved_;
    QuarantineState saved_quarantine_;
    std::optional<ReportedLosses> losses_;
    FolderPolicy folder_policy_;
    std::optional<FolderWatch> folder_watch_;
    bool reload_planned_ = false;
    unsigned trim_memory_in_ = 1; // seconds; never 0
    std::string folder_seen_;     // as it looked when the policy in force was read from it
    bool started_ = false;        // the audit record of the start is written

    std::unique_ptr<Spool> spool_;          // thread-safe
    std::unique_ptr<RecordWriter> records_; // thread-safe
    std::unique_ptr<Datapath> datapath_;
    std::unique_ptr<ProcessTable> processes_;  // used by the assembler alone
    RouteSource routes_;                       // used by the assembler alone
    std::unique_ptr<FlowAssembler> assembler_; // only through events_
    std::unique_ptr<HintRounds> hints_;        // thread-safe where it says so
    std::unique_ptr<LateConnections> late_;    // thread-safe where it says so
    std::unique_ptr<Rounds> looks_;            // for namespaces, when interfaces change
    std::unique_ptr<Rounds> cgroup_looks_;     // when some are made
    std::unique_ptr<EventThread> events_;
    std::unique_ptr<SubjectResolver> subjects_;
    std::unique_ptr<SessionKeeper> sessions_;
    std::unique_ptr<Enforcer> enforcer_;
    std::unique_ptr<LocalServer> local_;
    std::unique_ptr<MetricsServer> metrics_;
    std::unique_ptr<Uplink> uplink_;

    std::string state_trouble_, local_error_, uplink_error_;
    std::string kernel_error_, denials_error_; // the last ones of reading the kernel's tables that were logged
    std::string interface_error_;              // likewise
    std::vector<std::string> guarded_;         // interfaces
    std::string namespace_error_;              // likewise
    std::string namespace_trouble_;            // not told yet
    std::set<std::string> standing_tampering_; // that could not be put right, and was told
    std::deque<v1::Tampering> tampering_;      // the last few
    std::uint64_t tampered_ = 0;               // how often
    std::optional<std::string> takeover_;      // of programs of another version, which was not told yet
    bool takeover_pends_ = false;              // which was told
    CapacityWatch capacity_;
    std::uint64_t passes_seen_ = 0;
    std::uint64_t seconds_since_walk_ = 0;
    bool listeners_doubtful_ = false;
    ListenerWatch listener_watch_;
    bool has_heirs_ = false;             // owners of listeners are not what they were: walk as soon as may be
    std::chrono::seconds walk_rests_{0}; // the next walk that nobody is in a hurry for is not before
    std::optional<Error> fatal_;
};

} // namespace bulkhead::agent
