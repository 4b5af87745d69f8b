// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/agent.h"

#include "agent/daemon/environment.h"
#include "agent/daemon/host_facts.h"
#include "agent/daemon/memory.h"
#include "agent/daemon/service_manager.h"
#include "agent/sessions/late_session.h"
#include "agent/state/atomic_file.h"
#include "agent/state/locks.h"
#include "common/core/log.h"
#include "common/core/version.h"
#include "common/net/digest.h"

#include <fmt/ranges.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr auto folder_settles = 100ms; // an editor's save is several events
constexpr unsigned memory_settles = 3; // seconds without another policy
constexpr unsigned memory_trims = 60;  // seconds
constexpr const char* folder_seen_name = "/folder-seen";

void log_each_line(const std::string& text)
{
    for (std::size_t begin = 0; begin < text.size();) {
        const auto end = std::min(text.find('\n', begin), text.size());
        log_error("{}", std::string_view(text).substr(begin, end - begin));
        begin = end + 1;
    }
}

// For status and records, which show a refusal in one line.
std::string in_one_line(const std::string& text)
{
    std::string line;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\n') {
            line += text[i];
            continue;
        }
        line += "; ";
        while (i + 1 < text.size() && text[i + 1] == ' ')
            ++i;
    }
    return line;
}

} // namespace

Agent::Agent(const Invocation& invocation)
    : clock_(system_clock()), config_(invocation.config), join_token_(invocation.join_token),
      hostname_(hostname_of(invocation.config)), host_(invocation.config), saved_(invocation.config.state_dir),
      saved_quarantine_(invocation.config.state_dir), routes_(clock_)
{}

Agent::~Agent()
{
    stop_parts();
}

Result<std::unique_ptr<Agent>> Agent::start(const Invocation& invocation)
{
    std::unique_ptr<Agent> agent(new Agent(invocation));
    BULKHEAD_CHECK(agent->prepare());
    BULKHEAD_CHECK(agent->check_folder_first());
    BULKHEAD_CHECK(agent->open_records());
    // Nothing was attached before this, and nothing below fails but the guard and a first policy.
    BULKHEAD_CHECK(agent->open_kernel());
    BULKHEAD_CHECK(agent->bring_into_force());
    BULKHEAD_CHECK(agent->datapath_->finish_opening());
    BULKHEAD_CHECK(agent->look_for_changes());
    return agent;
}

Status Agent::prepare()
{
    BULKHEAD_TRY(const auto options, datapath_options(config_));
    cgroup_ = options.cgroup;
    BULKHEAD_CHECK(check_features(options));
    BULKHEAD_TRY(boot_id_, read_boot_id());
    BULKHEAD_TRY(cgroup_lock_, lock_cgroup(cgroup_));
    BULKHEAD_CHECK(open_state_dir());
    BULKHEAD_TRY(signals_, open_signals());
    BULKHEAD_TRY(loop_, ControlLoop::create());
    return check_uplink_first();
}

UplinkOptions Agent::uplink_options() const
{
    return {config_.controller, config_.state_dir, hostname_, config_.labels, join_token_};
}

// A folder that is bad at the very first start is an error of the command line; later it is something to live through.
Status Agent::check_folder_first()
{
    if (config_.policy_dir.empty() || something_before())
        return {};
    FolderPolicy trial;
    BULKHEAD_CHECK(trial.compile(config_.policy_dir, own_workload()));
    return {};
}

Status Agent::open_records()
{
    spool_ = make_patient_spool(
        [this] {
            SpoolOptions options;
            options.dir = config_.state_dir + "/spool";
            options.max_bytes = config_.spool_max_bytes;
            if (!config_.controller.empty())
                options.flow_bytes = options.max_bytes / 2;
            return open_spool(options);
        },
        clock_);
    records_ = std::make_unique<RecordWriter>(*spool_, clock_);
    records_->set_origin(hostname_, agent_id_, boot_id_);
    if (!config_.metrics_listen.empty()) {
        auto served =
            serve_metrics(config_.metrics_listen, [this] { return loop_->call([this] { return local_status(); }); });
        if (served)
            metrics_ = std::move(*served);
        else // no reason not to enforce
            log_error("{}", served.error().message);
    }
    return listen_locally();
}

Status Agent::open_kernel()
{
    BULKHEAD_TRY(const auto options, datapath_options(config_));
    BULKHEAD_TRY(datapath_, begin_datapath(options));
    takeover_ = datapath_->pending_takeover();
    BULKHEAD_TRY(const auto root, find_cgroup2_root());
    processes_ = make_process_table({"/proc", root});
    assembler_ =
        make_flow_assembler(clock_, *processes_, [this](v1::Record&& record) { records_->collect(std::move(record)); });
    late_ =
        std::make_unique<LateConnections>(*loop_, [this](const bh_event& event) { return cut_late_connection(event); });
    events_ = std::make_unique<EventThread>(
        *datapath_, *assembler_, [this] { records_->flush(); }, [this](const bh_event& event) { late_->add(event); });
    subjects_ = make_subject_resolver({cgroup_});
    sessions_ = std::make_unique<SessionKeeper>(
        *datapath_, clock_,
        [this](const bh_walked_socket& socket) {
            return events_->with([&](FlowAssembler& assembler) { return assembler.direction_of(socket); });
        },
        [this](const ForbiddenSession& session) { on_cut(session); });
    Enforcer::Hooks hooks{[this](std::shared_ptr<const PolicyView> view) { on_view(std::move(view)); },
                          [this](const Enforcer::Lapse& lapse) { on_lapse(lapse); },
                          [this](const QuarantineHold& hold) {
                              records_->audit("quarantine.end", hostname_, "the time is over; it was by " + hold.by);
                          },
                          [this](std::span<const FacetRow> rows) { before_rows_go(rows); }};
    enforcer_ =
        std::make_unique<Enforcer>(*datapath_, *subjects_, *sessions_, Enforcer::Stores{saved_, saved_quarantine_},
                                   clock_, boot_id_, std::move(hooks));
    return {};
}

Status Agent::bring_into_force()
{
    losses_.emplace(config_.state_dir, boot_id_);
    events_->with([&](FlowAssembler& assembler) { assembler.set_loss_baseline(losses_->reported()); });
    started_ = true;
    records_->audit("agent.start", hostname_, fmt::format("bulkheadd {} for {}", BULKHEAD_VERSION, cgroup_));
    // An error leaves what the kernel enforces; a newer policy may do better than the saved one.
    if (const auto resumed = enforcer_->resume(host_.failsafes(), {"failsafe/controller"}); !resumed)
        refuse(resumed.error(), "saved policy", true);
    for (const auto& what : enforcer_->damage())
        records_->audit("state.damage", config_.state_dir, what);
    host_.assume_controller(enforcer_->failsafes());
    if (!config_.policy_dir.empty()) {
        if (enforcer_->source() == PolicySource::folder)
            folder_policy_.remember(enforcer_->state());
        if (saved_policy_is_the_folders()) // and at boot the network waits for us
            reload_folder_soon();
        else
            reload_folder(true);
        if (!enforcer_->has_policy() && !enforcer_->plane_in_force()) {
            const Error error{
                ErrorKind::invalid, config_.policy_dir + ": invalid, and there is no policy from before", {}};
            BULKHEAD_CHECK(remove_programs());
            return tl::unexpected(error);
        }
    }
    hints_ = std::make_unique<HintRounds>(*loop_, [this](auto hints) { return follow_hints(hints); });
    looks_ = std::make_unique<Rounds>(*loop_, [this] {
        log_debug("interfaces have changed: looking for network namespaces without an inbound door");
        look_for_namespaces();
        return false;
    });
    events_->on_unfollowed([this](const NamespaceHint& hint) { hints_->add(hint); });
    look_for_namespaces(); // those that came while no agent ran
    tell_takeover();
    walk_sockets(); // what is in the rings from before ends connections of which only a listener tells who began
    events_->start();
    return {};
}

Status Agent::look_for_changes()
{
    if (!config_.controller.empty())
        connect_to_controller();
    if (!config_.policy_dir.empty())
        watch_folder();
    if (config_.controller.empty() && config_.policy_dir.empty())
        log_warning(
            "neither a controller nor a policy folder is configured: flows are recorded, and a policy that is in "
            "force stays");
    if (!config_.failsafe.management_given)
        log_warning("ssh is open to this host from everywhere, whatever the policy: narrow failsafe.management");
    if (!sha1({}) || !sha256({}))
        log_warning("OpenSSL offers no {} (openssl.cnf): records carry no {}", sha256({}) ? "SHA-1" : "SHA-256",
                    sha256({}) ? "community_id" : "flow_id that tells them apart");
    if (config_.guard == AttachMode::automatic)
        log_info("guard: auto is always on this kernel: nothing here can prove that no socket sends without a door");
    if (const int events = datapath_->interface_events(); events >= 0)
        loop_->watch(events, [this] {
            follow_interfaces();
            looks_->ask(); // one that has left may be in a namespace now that nobody is in yet
        });
    cgroup_looks_ = std::make_unique<Rounds>(*loop_, [this] { return look_for_cgroups(); });
    await_new_cgroups();
    loop_->watch(signals_.get(), [this] { on_signal(); });
    loop_->every(1s, [this] { second_passed(); });
    loop_->every(400ms, [this] { look_for_tampering(); });
    loop_->every(5s, [this] { look_at_capacity(); });
    loop_->every(1min, [this] { try_again(); });
    return {};
}

void Agent::watch_folder()
{
    auto watch = FolderWatch::create(config_.policy_dir);
    if (!watch) {
        log_warning("changes of {} are noticed on SIGHUP only: {}", config_.policy_dir, watch.error().message);
        return;
    }
    folder_watch_ = std::move(*watch);
    loop_->watch(folder_watch_->fd(), [this] {
        if (folder_watch_->read_events())
            reload_folder_soon();
    });
    reload_folder_soon(); // what changed between the first reading and the watch
}

// By how the files look; they are read again all the same, once the agent is ready.
bool Agent::saved_policy_is_the_folders() const
{
    if (!enforcer_->plane_in_force() || enforcer_->source() != PolicySource::folder || !enforcer_->refusal().empty() ||
        !enforcer_->damage().empty())
        return false;
    const auto seen = read_file_if_there(config_.state_dir + folder_seen_name);
    return seen && *seen && !(*seen)->empty() && **seen == look_of(config_.policy_dir, own_workload());
}

void Agent::remember_folder(std::string look)
{
    if (look == folder_seen_ || enforcer_->unsaved())
        return;
    if (const auto kept = write_file_atomically(config_.state_dir + folder_seen_name, look, 0600); kept)
        folder_seen_ = std::move(look);
    else
        log_debug("the next start reads {} before it is ready: {}", config_.policy_dir, kept.error().message);
}

Status Agent::run()
{
    log_info("running: {}", summary());
    notify_ready(summary());
    loop_->run();
    notify_stopping();
    log_info("stopping; {}", enforcer_->plane_in_force() ? "the kernel goes on enforcing" : "nothing is enforced");
    const bool idle = !enforcer_->plane_in_force();
    stop_parts();
    if (!fatal_)
        return {};
    if (idle)
        if (const auto removed = remove_programs(); !removed)
            log_error("{}", removed.error().message);
    return tl::unexpected(*fatal_);
}

// Programs that enforce nothing, of an agent that will not go on, are no use to anybody.
Status Agent::remove_programs()
{
    enforcer_.reset();
    datapath_.reset();
    BULKHEAD_TRY(const auto options, datapath_options(config_));
    BULKHEAD_CHECK(detach_datapath(options));
    return {};
}

void Agent::stop_parts()
{
    if (loop_)
        loop_->end(); // whoever waits for an answer of the loop gets none
    local_.reset();
    metrics_.reset();
    uplink_.reset();
    if (!events_)
        return;
    events_->stop();
    if (!std::exchange(started_, false) || !enforcer_)
        return;
    records_->audit("agent.stop", hostname_, summary());
    if (const auto synced = spool_->sync(); !synced)
        log_error("the last records may not be on disk: {}", synced.error().message);
}

void Agent::on_signal()
{
    while (const auto number = read_signal(signals_)) {
        if (*number != SIGHUP) {
            loop_->stop();
            continue;
        }
        notify_reloading();
        log_info("SIGHUP: reading everything again");
        host_.look_at_all_soon();
        if (!config_.policy_dir.empty())
            reload_folder(true);
        notify_ready(summary());
    }
}

void Agent::second_passed()
{
    const auto changes = host_.tick(uplink_ && uplink_->connected());
    if (changes.failsafes)
        if (const auto set = enforcer_->set_failsafes(host_.failsafes()); !set)
            log_error("the failsafes cannot be changed: {}", set.error().message);
    if (changes.addresses) {
        if (!config_.policy_dir.empty())
            reload_folder(false);
        if (uplink_)
            uplink_->report_soon();
        refresh_host();
    }
    if (folder_watch_ && folder_watch_->check_folder())
        reload_folder_soon();
    enforcer_->tick();
    tell_takeover();
    follow_interfaces();
    report_denials();
    look_for_namespaces();
    tell_namespace_trouble();
    report_flows();
    if (const auto synced = spool_->sync(); !synced)
        log_debug("spool: {}", synced.error().message); // append() complains already
    if (--trim_memory_in_ == 0) {
        // What a large policy took to be read, or any other burst, would stay with us for good.
        give_memory_back();
        trim_memory_in_ = memory_trims;
    }
    if (events_->passes() != std::exchange(passes_seen_, events_->passes()))
        notify_watchdog();
    notify_status(summary());
}

void Agent::reload_folder_soon()
{
    if (std::exchange(reload_planned_, true))
        return;
    loop_->after(folder_settles, [this] {
        reload_planned_ = false;
        reload_folder(false);
    });
}

void Agent::reload_folder(bool say_again)
{
    auto look = look_of(config_.policy_dir, own_workload()); // first: what changes meanwhile is seen to have changed
    auto compiled = folder_policy_.compile(config_.policy_dir, own_workload());
    trim_memory_in_ = memory_settles;
    if (!compiled) {
        refuse(compiled.error(), config_.policy_dir, say_again);
        return;
    }
    const auto& held = enforcer_->state();
    const bool same = enforcer_->has_policy() && enforcer_->source() == PolicySource::folder &&
                      compiled->policy == held.policy && compiled->addresses == held.addresses &&
                      compiled->identities == held.identities && compiled->own_labels == held.own_labels;
    compiled->policy_version = held.policy_version + (same ? 0 : 1);
    const auto version = compiled->policy_version;
    const bool mends = !enforcer_->refusal().empty();
    const auto begun = clock_.monotonic();
    if (const auto enforced = enforcer_->enforce(std::move(*compiled), PolicySource::folder); !enforced) {
        refuse(enforced.error(), config_.policy_dir, say_again);
        return;
    }
    remember_folder(std::move(look));
    refresh_host();
    if (same && mends)
        log_info("{} is valid again, and what is in force already: version {}", config_.policy_dir, version);
    if (same)
        return;
    log_info("policy version {} of {} is in force ({:.1f} ms)", version, config_.policy_dir,
             std::chrono::duration<double, std::milli>(clock_.monotonic() - begun).count());
    records_->audit("policy.enforce", config_.policy_dir, fmt::format("version {}", version));
}

void Agent::refuse(const Error& error, const std::string& object, bool say_again)
{
    const auto why = in_one_line(error.message);
    if (why == enforcer_->refusal() && !say_again)
        return;
    enforcer_->refuse(why);
    log_each_line(error.message);
    log_error("policy from {} is refused; {}", object,
              enforcer_->plane_in_force() ? fmt::format("version {} stays in force", enforcer_->state().policy_version)
                                          : std::string("nothing is enforced"));
    records_->audit("policy.refuse", object, why);
}

OwnWorkload Agent::own_workload() const
{
    return {hostname_, config_.labels, host_.addresses()};
}

void Agent::on_view(std::shared_ptr<const PolicyView> view)
{
    events_->with([&](FlowAssembler& assembler) { assembler.set_policy(std::move(view)); });
    refresh_host();
    trim_memory_in_ = memory_settles;
    loop_->post([this] { walk_sockets(); }); // when the switch is over
}

void Agent::on_cut(const ForbiddenSession& session)
{
    events_->with([&](FlowAssembler& assembler) {
        assembler.on_cut(session.socket.socket, session.direction, session.verdict, session.verdict.subject);
    });
}

void Agent::on_lapse(const Enforcer::Lapse& lapse)
{
    records_->audit("policy.lapse", fmt::format("version {}", lapse.version),
                    fmt::format("{}; back to version {}", lapse.why, lapse.back_to));
    refresh_host();
    if (uplink_)
        uplink_->report_soon();
}

// Whatever `sessions:` says: it is a new connection of the policy in force, not an old one.
Result<bool> Agent::cut_late_connection(const bh_event& event)
{
    const auto session = late_session(event);
    on_cut(session); // first, as in SessionKeeper
    return datapath_->destroy_socket(session.socket.socket);
}

void Agent::refresh_host()
{
    HostIdentity self{hostname_, agent_id_, boot_id_, config_.labels, {}, 0};
    struct stat own_namespace {};
    if (::stat("/proc/self/ns/net", &own_namespace) == 0)
        self.netns = static_cast<std::uint32_t>(own_namespace.st_ino);
    self.source_towards = [this](const IpAddress& peer) { return routes_.towards(peer); };
    if (enforcer_ && enforcer_->view()) {
        const auto& view = *enforcer_->view();
        self.segments = view.policy.segments;
        for (const auto& address : host_.addresses())
            if (const auto entry = view.addresses.find(address); entry != view.addresses.end())
                self.identity = entry->second.identity;
        if (const auto identity = view.identities.find(self.identity); identity != view.identities.end())
            self.labels = identity->second.labels;
        else if (enforcer_->has_policy())
            self.labels = enforcer_->state().own_labels;
    }
    records_->set_origin(hostname_, agent_id_, boot_id_);
    events_->with([&](FlowAssembler& assembler) { assembler.set_host(std::move(self)); });
}

} // namespace bulkhead::agent
