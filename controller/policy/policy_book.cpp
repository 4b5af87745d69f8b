// SPDX-License-Identifier: Apache-2.0
#include "controller/policy/policy_book.h"

#include "common/core/log.h"
#include "controller/store/audit.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

bool same_files(const std::vector<policy::SourceFile>& a, const std::vector<policy::SourceFile>& b)
{
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](const auto& x, const auto& y) { return x.name == y.name && x.text == y.text; });
}

std::vector<std::string> to_text(const std::vector<policy::Diagnostic>& diagnostics)
{
    std::vector<std::string> lines;
    for (const auto& diagnostic : diagnostics)
        lines.push_back(diagnostic.to_string());
    return lines;
}

bool was_for_good(const PolicyVersion& policy)
{
    return !policy.trial || policy.trial->outcome == TrialOutcome::confirmed;
}

std::vector<std::string> failures_of(const World& world)
{
    std::vector<std::string> lines;
    for (const auto& [workload, id] : world.identity_of)
        if (const auto failure = world.failures.find(id); failure != world.failures.end())
            lines.push_back(fmt::format("error: for workload {}: {}", workload, failure->second));
    return lines;
}

} // namespace

Result<std::unique_ptr<PolicyBook>> PolicyBook::load(ControlStore& store, const Inventory& inventory,
                                                     const Clock& clock)
{
    BULKHEAD_TRY(auto identities, IdentityBook::load(store));
    std::unique_ptr<PolicyBook> book(new PolicyBook(store, inventory, clock, std::move(identities)));
    BULKHEAD_CHECK(book->load_editions());
    BULKHEAD_CHECK(book->rebuild());
    return book;
}

Status PolicyBook::load_editions()
{
    BULKHEAD_TRY(const auto all, store_.policies());
    newest_ = all.empty() ? 0 : all.front().version;
    std::optional<PolicyVersion> pending;
    std::uint64_t confirmed = 0;
    for (const auto& policy : all) {
        if (policy.trial && policy.trial->outcome == TrialOutcome::pending && !pending)
            pending = policy;
        else if (was_for_good(policy))
            confirmed = std::max(confirmed, policy.version);
    }
    BULKHEAD_TRY(confirmed_, load_edition(confirmed));
    if (!pending)
        return {};
    // The deadline is a time of the wall clock; a clock that was set back must not make the trial longer than it was.
    const auto left = std::min(pending->trial->until_us - unix_micros(clock_), pending->trial->window_us);
    BULKHEAD_TRY(auto edition, load_edition(pending->version));
    tried_ = Tried{std::move(edition),
                   {pending->version, confirmed, pending->author, pending->trial->until_us},
                   clock_.monotonic() + std::chrono::microseconds(std::max<std::int64_t>(left, 0))};
    if (left > 0)
        return {};
    return end_trial(TrialOutcome::lapsed, controller_agent_id, "policy.lapse",
                     fmt::format("not confirmed in time; back to version {}", confirmed));
}

Result<PolicyBook::Edition> PolicyBook::load_edition(std::uint64_t version)
{
    if (version == 0)
        return Edition{0, std::make_shared<policy::PolicySet>(), {}};
    BULKHEAD_TRY(auto stored, store_.policy(version));
    if (!stored)
        return fail(ErrorKind::failed, "there is no policy version {} in the store", version);
    auto outcome = policy::parse(stored->files);
    if (outcome.ok())
        return Edition{version, std::make_shared<policy::PolicySet>(std::move(outcome.policy)),
                       std::move(stored->files)};
    log_error("policy version {} in the store is not valid for this version of the controller: {}; agents keep "
              "what they have until another policy is applied",
              version, outcome.diagnostics.front().to_string());
    return Edition{version, nullptr, std::move(stored->files)};
}

std::shared_ptr<const World> PolicyBook::world() const
{
    const std::lock_guard lock(mutex_);
    return world_;
}

std::uint64_t PolicyBook::version() const
{
    const std::lock_guard lock(mutex_);
    return version_;
}

std::optional<PendingTrial> PolicyBook::trial() const
{
    const std::lock_guard lock(mutex_);
    return trial_;
}

// Generations are times, so that after a restart none is given out again and every agent's is recognised as older.
std::shared_ptr<const World> PolicyBook::build(const Edition& edition)
{
    if (!edition.policy)
        return nullptr;
    auto previous = world();
    if (previous && previous->trial && previous->policy != edition.policy)
        previous = previous->trial->on;
    last_generation_ = std::max(static_cast<std::uint64_t>(unix_micros(clock_)), last_generation_ + 1);
    WorldInput input{last_generation_, edition.version, edition.policy, {}};
    input.composition = inventory_.compose(*input.policy);
    return build_world(
        std::move(input),
        [this](const policy::Labels& labels, const std::string& named) { return identities_.number(labels, named); },
        previous.get());
}

// With what hosts go back to: one that connects meanwhile is brought to that first.
std::shared_ptr<const World> PolicyBook::build_with_trial(const Edition& edition, MonotonicTime until)
{
    auto on = build(confirmed_);
    const auto plain = build(edition);
    if (!plain)
        return nullptr;
    auto world = std::make_shared<World>(*plain);
    world->trial = TrialTerms{until, std::move(on)};
    return world;
}

void PolicyBook::publish(std::shared_ptr<const World> world)
{
    {
        const std::lock_guard lock(mutex_);
        version_ = in_force().version;
        trial_ = tried_ ? std::optional(tried_->terms) : std::nullopt;
        world_ = std::move(world);
    }
    if (listener_)
        listener_();
}

Status PolicyBook::refresh()
{
    const std::lock_guard change(change_mutex_);
    return rebuild();
}

Status PolicyBook::rebuild()
{
    auto next = tried_ ? build_with_trial(tried_->edition, tried_->until) : build(confirmed_);
    if (!next) {
        publish(nullptr);
        return {};
    }
    if (auto kept = identities_.keep(); !kept) {
        identities_.forget();
        return kept;
    }
    for (const auto& failure : failures_of(*next))
        log_error("policy version {}: {}", next->policy_version, failure);
    publish(std::move(next));
    return {};
}

Result<Applied> PolicyBook::apply(const Application& application)
{
    const std::lock_guard change(change_mutex_);
    if (tried_ && !application.force)
        return tl::unexpected(Error{
            ErrorKind::refused,
            fmt::format("version {} of {} is on trial until {}", tried_->terms.version, tried_->terms.author,
                        format_rfc3339_micros(tried_->terms.until_us)),
            "keep it with: policy confirm, end it with: policy rollback, or put this one in its place with --force"});
    return put_in_force({application, "policy.apply", TrialOutcome::replaced});
}

Result<Applied> PolicyBook::put_in_force(const Change& change)
{
    const auto& application = change.application;
    auto outcome = policy::parse(application.files);
    if (!outcome.ok())
        return Applied{to_text(outcome.diagnostics), 0, false};
    if (!tried_ && confirmed_.policy && confirmed_.version != 0 && same_files(application.files, confirmed_.files))
        return Applied{{}, confirmed_.version, true};
    Edition edition{newest_ + 1, std::make_shared<policy::PolicySet>(std::move(outcome.policy)), application.files};
    PolicyVersion stored{edition.version, unix_micros(clock_), application.author, application.message,
                         application.files};
    const auto window = application.confirm_within.value_or(std::chrono::microseconds(0));
    const auto until = clock_.monotonic() + window;
    if (application.confirm_within)
        stored.trial = TrialRow{window.count(), stored.created_us + window.count()};
    auto next = application.confirm_within ? build_with_trial(edition, until) : build(edition);
    if (auto failures = failures_of(*next); !failures.empty()) {
        identities_.forget();
        return Applied{std::move(failures), 0, false};
    }
    std::optional<TrialEnd> ends;
    if (tried_ && change.ends_trial)
        ends = TrialEnd{tried_->terms.version, *change.ends_trial, stored.created_us, application.author};
    const auto words = application.confirm_within ? fmt::format("version {}, on trial until {}", edition.version,
                                                                format_rfc3339_micros(stored.trial->until_us))
                                                  : fmt::format("version {}", edition.version);
    auto audit = make_audit(clock_, {application.author, change.action, words, application.message});
    audit.set_policy_version(edition.version);
    auto done = identities_.keep();
    if (done)
        done = store_.append_policy(stored, ends, audit);
    if (!done) {
        identities_.forget();
        return tl::unexpected(std::move(done).error());
    }
    newest_ = edition.version;
    if (application.confirm_within)
        tried_ =
            Tried{std::move(edition), {newest_, confirmed_.version, application.author, stored.trial->until_us}, until};
    else {
        tried_.reset();
        confirmed_ = std::move(edition);
    }
    publish(std::move(next));
    return Applied{{}, newest_, false};
}

Result<std::uint64_t> PolicyBook::confirm(std::uint64_t version, const std::string& who)
{
    const std::lock_guard change(change_mutex_);
    if (!tried_ && version != 0 && version == confirmed_.version)
        return version; // somebody was quicker
    if (!tried_)
        return fail(ErrorKind::refused, "no policy version is on trial");
    const auto& terms = tried_->terms;
    if (version != 0 && version != terms.version)
        return fail(ErrorKind::refused, "policy version {} is on trial, not {}", terms.version, version);
    if (clock_.monotonic() >= tried_->until)
        return fail(ErrorKind::refused, "the time of version {} was over at {}: hosts are back at version {}",
                    terms.version, format_rfc3339_micros(terms.until_us), terms.back_to);
    auto audit = make_audit(clock_, {who, "policy.confirm", fmt::format("version {}", terms.version), ""});
    audit.set_policy_version(terms.version);
    BULKHEAD_CHECK(store_.end_trial({terms.version, TrialOutcome::confirmed, unix_micros(clock_), who}, audit));
    confirmed_ = std::move(tried_->edition);
    tried_.reset();
    auto lasting = world() ? std::make_shared<World>(*world()) : nullptr;
    if (lasting)
        lasting->trial.reset();
    publish(std::move(lasting));
    return confirmed_.version;
}

Status PolicyBook::end_trial(TrialOutcome outcome, const std::string& who, const std::string& action,
                             const std::string& message)
{
    const auto version = tried_->terms.version;
    auto audit = make_audit(clock_, {who, action, fmt::format("version {}", version), message});
    audit.set_policy_version(version);
    BULKHEAD_CHECK(store_.end_trial({version, outcome, unix_micros(clock_), who}, audit));
    tried_.reset();
    return {};
}

Result<Applied> PolicyBook::roll_back(std::uint64_t version, const std::string& who, const std::string& message)
{
    const std::lock_guard change(change_mutex_);
    if (tried_ && (version == 0 || version == confirmed_.version)) {
        const auto back =
            fmt::format("back to version {}{}{}", confirmed_.version, message.empty() ? "" : ": ", message);
        BULKHEAD_CHECK(end_trial(TrialOutcome::rolled_back, who, "policy.rollback", back));
        BULKHEAD_CHECK(rebuild());
        return Applied{{}, confirmed_.version, false};
    }
    if (tried_ && version == tried_->terms.version)
        return fail(ErrorKind::refused, "version {} is the one on trial: keep it with policy confirm", version);
    if (version == 0) {
        BULKHEAD_TRY(version, version_before());
    }
    BULKHEAD_TRY(auto target, store_.policy(version));
    if (!target)
        return fail(ErrorKind::usage, "there is no policy version {}", version);
    Application application{std::move(target->files), message, who, std::nullopt, true};
    if (message.empty())
        application.message = fmt::format("rollback to version {}", version);
    return put_in_force({std::move(application), "policy.rollback", TrialOutcome::rolled_back});
}

// The last one that was in force for good before the one that is.
Result<std::uint64_t> PolicyBook::version_before()
{
    BULKHEAD_TRY(const auto all, store_.policies());
    for (const auto& policy : all) // newest first
        if (policy.version < confirmed_.version && was_for_good(policy))
            return policy.version;
    return fail(ErrorKind::refused, "there is no version before {} to go back to", confirmed_.version);
}

void PolicyBook::look_at_trial()
{
    const std::lock_guard change(change_mutex_);
    if (!tried_ || clock_.monotonic() < tried_->until + trial_grace)
        return;
    const auto version = tried_->terms.version;
    const auto ended = end_trial(TrialOutcome::lapsed, controller_agent_id, "policy.lapse",
                                 fmt::format("not confirmed in time; back to version {}", confirmed_.version));
    if (!ended) {
        log_error("the trial of policy version {} is over and cannot be noted: {}; trying again", version,
                  ended.error().message);
        return;
    }
    log_warning("policy version {} was not confirmed in time: version {} is in force again", version,
                confirmed_.version);
    if (const auto rebuilt = rebuild(); !rebuilt)
        log_error("{}", rebuilt.error().message); // the next change of the inventory builds it
}

} // namespace bulkhead::controller
