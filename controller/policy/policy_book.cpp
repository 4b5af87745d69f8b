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
    BULKHEAD_TRY(const auto newest, store.policy(0));
    std::unique_ptr<PolicyBook> book(new PolicyBook(store, inventory, clock, std::move(identities)));
    book->policy_ = std::make_shared<policy::PolicySet>();
    if (newest) {
        book->version_ = newest->version;
        auto outcome = policy::parse(newest->files);
        if (!outcome.ok()) {
            log_error("policy version {} in the store is not valid for this version of the controller: {}; agents keep "
                      "what they have until another policy is applied",
                      newest->version, outcome.diagnostics.front().to_string());
            book->policy_ = nullptr;
            return book;
        }
        book->policy_ = std::make_shared<policy::PolicySet>(std::move(outcome.policy));
        book->files_ = newest->files;
    }
    BULKHEAD_CHECK(book->refresh());
    return book;
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

// Generations are times, so that after a restart none is given out again and every agent's is recognised as older.
std::shared_ptr<const World> PolicyBook::build(std::shared_ptr<const policy::PolicySet> policy, std::uint64_t version)
{
    const auto previous = world();
    const auto now = static_cast<std::uint64_t>(unix_micros(clock_));
    WorldInput input{previous ? std::max(now, previous->generation + 1) : now, version, std::move(policy), {}};
    input.composition = inventory_.compose(*input.policy);
    return build_world(
        std::move(input),
        [this](const policy::Labels& labels, const std::string& named) { return identities_.number(labels, named); },
        previous.get());
}

void PolicyBook::put_in_force(std::shared_ptr<const World> world)
{
    {
        const std::lock_guard lock(mutex_);
        version_ = world->policy_version;
        world_ = std::move(world);
    }
    if (listener_)
        listener_();
}

Status PolicyBook::refresh()
{
    const std::lock_guard change(change_mutex_);
    if (!policy_)
        return {};
    auto next = build(policy_, version());
    if (auto kept = identities_.keep(); !kept) {
        identities_.forget();
        return kept;
    }
    for (const auto& failure : failures_of(*next))
        log_error("policy version {}: {}", next->policy_version, failure);
    put_in_force(std::move(next));
    return {};
}

Result<Applied> PolicyBook::apply(const std::vector<policy::SourceFile>& files, const std::string& message,
                                  const std::string& author)
{
    auto outcome = policy::parse(files);
    if (!outcome.ok())
        return Applied{to_text(outcome.diagnostics), 0, false};
    auto policy = std::make_shared<policy::PolicySet>(std::move(outcome.policy));

    const std::lock_guard change(change_mutex_);
    if (policy_ && version() != 0 && same_files(files, files_))
        return Applied{{}, version(), true};
    auto next = build(policy, version() + 1);
    if (auto failures = failures_of(*next); !failures.empty()) {
        identities_.forget();
        return Applied{std::move(failures), 0, false};
    }
    const auto number = next->policy_version;
    auto audit = make_audit(clock_, {author, "policy.apply", fmt::format("version {}", number), message});
    audit.set_policy_version(number);
    auto stored = identities_.keep();
    if (stored)
        stored = store_.append_policy({number, unix_micros(clock_), author, message, files}, audit);
    if (!stored) {
        identities_.forget();
        return tl::unexpected(std::move(stored).error());
    }
    policy_ = std::move(policy);
    files_ = files;
    put_in_force(std::move(next));
    return Applied{{}, number, false};
}

} // namespace bulkhead::controller
