// SPDX-License-Identifier: Apache-2.0
#include "common/core/version.h"
#include "controller/api/caller.h"
#include "controller/api/policy_calls.h"
#include "controller/api/record_query.h"
#include "controller/api/services.h"
#include "controller/policy/describe.h"
#include "controller/store/audit.h"

#include <algorithm>
#include <atomic>

namespace bulkhead::controller {
namespace {

constexpr std::uint64_t max_quarantine_ms = 10ULL * 365 * 86'400'000; // longer is for good
constexpr int max_followers = 64;                                     // each holds a thread

class AdminService final : public v1::Admin::Service {
public:
    explicit AdminService(ApiParts parts) : parts_(parts), started_us_(unix_micros(parts.clock)) {}

    grpc::Status ApplyPolicy(grpc::ServerContext* context, const v1::ApplyPolicyRequest* request,
                             v1::ApplyPolicyReply* reply) override
    {
        const auto admin = require_admin(*context);
        return admin ? apply_policy(parts_, *admin, *request, *reply) : admin.error();
    }

    grpc::Status ConfirmPolicy(grpc::ServerContext* context, const v1::ConfirmPolicyRequest* request,
                               v1::ApplyPolicyReply* reply) override
    {
        const auto admin = require_admin(*context);
        return admin ? confirm_policy(parts_, *admin, *request, *reply) : admin.error();
    }

    grpc::Status RollbackPolicy(grpc::ServerContext* context, const v1::RollbackPolicyRequest* request,
                                v1::ApplyPolicyReply* reply) override
    {
        const auto admin = require_admin(*context);
        return admin ? roll_back_policy(parts_, *admin, *request, *reply) : admin.error();
    }

    grpc::Status ListPolicies(grpc::ServerContext* context, const v1::Empty*, v1::PolicyList* reply) override
    {
        const auto admin = require_admin(*context);
        return admin ? list_policies(parts_, *reply) : admin.error();
    }

    grpc::Status GetPolicy(grpc::ServerContext* context, const v1::GetPolicyRequest* request,
                           v1::GetPolicyReply* reply) override
    {
        const auto admin = require_admin(*context);
        return admin ? get_policy(parts_, *request, *reply) : admin.error();
    }

    grpc::Status ListWorkloads(grpc::ServerContext* context, const v1::Empty*, v1::WorkloadList* reply) override
    {
        if (const auto admin = require_admin(*context); !admin)
            return admin.error();
        const auto world = parts_.book.world();
        if (!world)
            return no_world();
        const auto agents = agents_by_workload();
        for (const auto& workload : world->composition.workloads.workloads)
            *reply->add_workloads() = with_agent(describe(workload, *world), agents);
        return grpc::Status::OK;
    }

    grpc::Status LabelWorkload(grpc::ServerContext* context, const v1::LabelWorkloadRequest* request,
                               v1::WorkloadInfo* reply) override
    {
        const auto admin = require_admin(*context);
        if (!admin)
            return admin.error();
        if (const auto known = find_also_new(request->name(), *reply); !known.ok())
            return known;
        const policy::Labels set(request->set().begin(), request->set().end());
        const std::vector<std::string> remove(request->remove().begin(), request->remove().end());
        std::vector<std::string> words;
        for (const auto& [key, value] : set)
            words.push_back(key + "=" + value);
        for (const auto& key : remove)
            words.push_back(key + "-");
        auto audit = make_audit(parts_.clock,
                                {*admin, "workload.label", request->name(), fmt::format("{}", fmt::join(words, " "))});
        if (auto labelled = parts_.inventory.label(request->name(), set, remove, std::move(audit)); !labelled)
            return to_grpc(labelled.error());
        parts_.feed.notify();
        // Rebuilt here and not only by the distributor, so that the answer shows the labels as they are now.
        if (auto refreshed = parts_.book.refresh(); !refreshed)
            return to_grpc(refreshed.error());
        return find_workload(request->name(), *reply);
    }

    grpc::Status SetQuarantine(grpc::ServerContext* context, const v1::SetQuarantineRequest* request,
                               v1::WorkloadInfo* reply) override
    {
        const auto admin = require_admin(*context);
        if (!admin)
            return admin.error();
        const auto& name = request->name();
        const auto held = parts_.inventory.quarantine_of(name);
        if (const auto known = find_also_new(name, *reply); !known.ok() && !held)
            return known;
        if (!reply->has_agent() && !held)
            return {grpc::StatusCode::ABORTED, fmt::format("'{}' has no agent that could cut it off", name)};
        if (const auto done = change_quarantine(*request, *admin, held); !done)
            return to_grpc(done.error());
        parts_.feed.notify();
        parts_.distributor.quarantine_changed(name);
        parts_.distributor.wait_for_quarantine(name, request->on(),
                                               std::chrono::milliseconds(std::min(request->wait_ms(), max_wait_ms)));
        return find_workload(name, *reply);
    }

    grpc::Status ListSegments(grpc::ServerContext* context, const v1::Empty*, v1::SegmentList* reply) override
    {
        if (const auto admin = require_admin(*context); !admin)
            return admin.error();
        const auto world = parts_.book.world();
        if (!world)
            return no_world();
        for (const auto& segment : world->policy->segments)
            *reply->add_segments() = describe(segment, *world);
        return grpc::Status::OK;
    }

    grpc::Status ListAgents(grpc::ServerContext* context, const v1::Empty*, v1::AgentList* reply) override
    {
        if (const auto admin = require_admin(*context); !admin)
            return admin.error();
        for (const auto& view : parts_.inventory.agents()) {
            const auto last_seq = parts_.records.last_seq(view.row.id);
            if (!last_seq)
                return to_grpc(last_seq.error());
            auto& agent = *reply->add_agents();
            agent.set_name(view.row.workload);
            agent.set_agent_id(view.row.id);
            agent.set_connected(view.connected);
            agent.set_last_seen_us(view.row.last_seen_us);
            agent.set_policy_version(view.row.policy_version);
            agent.set_enforced(view.row.enforced);
            agent.set_refusal(view.row.refusal);
            agent.set_agent_version(view.row.agent_version);
            agent.set_kernel_release(view.row.kernel_release);
            agent.set_certificate_expires_us(view.row.certificate_expires_us);
            agent.set_records_spooled(view.row.records_spooled);
            agent.set_records_lost(view.row.records_lost);
            agent.set_last_seq(*last_seq);
            *agent.mutable_standing() = view.standing;
        }
        return grpc::Status::OK;
    }

    grpc::Status CreateToken(grpc::ServerContext* context, const v1::CreateTokenRequest* request,
                             v1::CreateTokenReply* reply) override
    {
        const auto admin = require_admin(*context);
        if (!admin)
            return admin.error();
        auto token = parts_.enroller.create_token(*request, *admin);
        if (!token)
            return to_grpc(token.error());
        parts_.feed.notify();
        *reply = std::move(*token);
        return grpc::Status::OK;
    }

    grpc::Status QueryRecords(grpc::ServerContext* context, const v1::RecordQuery* request,
                              grpc::ServerWriter<v1::RecordBatch>* writer) override
    {
        if (const auto admin = require_admin(*context); !admin)
            return admin.error();
        const auto leave = [](std::atomic<int>* count) { --*count; };
        const std::unique_ptr<std::atomic<int>, decltype(leave)> place(&followers_, leave);
        if (++followers_ > max_followers)
            return {grpc::StatusCode::RESOURCE_EXHAUSTED,
                    fmt::format("{} queries run already; end one of them", max_followers)};
        const RecordSink sink{[writer](const v1::RecordBatch& batch) { return writer->Write(batch); },
                              [context] { return context->IsCancelled(); }};
        auto done = query_records(parts_.records, parts_.feed, *request, sink);
        return done ? grpc::Status::OK : to_grpc(done.error());
    }

    grpc::Status GetStatus(grpc::ServerContext* context, const v1::Empty*, v1::ControllerStatus* reply) override
    {
        if (const auto admin = require_admin(*context); !admin)
            return admin.error();
        const auto newest = parts_.records.newest_arrival();
        if (!newest)
            return to_grpc(newest.error());
        const auto agents = parts_.inventory.agents();
        reply->set_version(BULKHEAD_VERSION);
        reply->set_policy_version(parts_.book.version());
        reply->set_records(*newest);
        reply->set_agents(static_cast<std::uint32_t>(agents.size()));
        reply->set_agents_connected(static_cast<std::uint32_t>(
            std::count_if(agents.begin(), agents.end(), [](const AgentView& view) { return view.connected; })));
        reply->set_started_us(started_us_);
        reply->set_quarantined(static_cast<std::uint32_t>(parts_.inventory.quarantines().size()));
        if (const auto trial = parts_.book.trial()) {
            reply->set_trial_version(trial->version);
            reply->set_trial_until_us(trial->until_us);
            reply->set_trial_by(trial->author);
        }
        return grpc::Status::OK;
    }

private:
    using AgentsByWorkload = std::map<std::string, AgentView>;

    static grpc::Status no_world()
    {
        return {grpc::StatusCode::FAILED_PRECONDITION,
                "the stored policy is not valid for this version of the controller; apply another"};
    }

    AgentsByWorkload agents_by_workload() const
    {
        AgentsByWorkload agents;
        for (auto& view : parts_.inventory.agents())
            agents[view.row.workload] = std::move(view);
        return agents;
    }

    [[nodiscard]] Status change_quarantine(const v1::SetQuarantineRequest& request, const std::string& admin,
                                           const std::optional<QuarantineRow>& held) const
    {
        const auto now = unix_micros(parts_.clock);
        if (!request.on()) {
            if (!held)
                return {};
            return parts_.inventory.lift_quarantine(
                request.name(),
                make_audit(parts_.clock, {admin, "workload.release", request.name(), request.reason()}));
        }
        QuarantineRow row{request.name(), admin, request.reason(), now, 0};
        auto words = request.reason();
        if (request.for_ms() != 0) {
            row.until_us = now + static_cast<std::int64_t>(std::min(request.for_ms(), max_quarantine_ms)) * 1000;
            words += fmt::format("{}until {}", words.empty() ? "" : "; ", format_rfc3339_micros(row.until_us));
        }
        return parts_.inventory.set_quarantine(
            row, make_audit(parts_.clock, {admin, "workload.quarantine", request.name(), words}));
    }

    [[nodiscard]] v1::WorkloadInfo with_agent(v1::WorkloadInfo info, const AgentsByWorkload& agents) const
    {
        if (const auto quarantine = parts_.inventory.quarantine_of(info.name()))
            *info.mutable_quarantine() = describe(*quarantine);
        if (const auto agent = agents.find(info.name()); agent != agents.end()) {
            info.set_has_agent(true);
            info.set_connected(agent->second.connected);
            info.set_agent_id(agent->second.row.id);
            const auto& standing = agent->second.standing;
            info.set_quarantined(standing.quarantined());
            if (standing.has_local_quarantine())
                *info.mutable_local_quarantine() = standing.local_quarantine();
        }
        return info;
    }

    grpc::Status find_workload(const std::string& name, v1::WorkloadInfo& info) const
    {
        const auto world = parts_.book.world();
        if (!world)
            return no_world();
        const auto& workloads = world->composition.workloads.workloads;
        const auto found = std::find_if(workloads.begin(), workloads.end(),
                                        [&name](const policy::Workload& workload) { return workload.name == name; });
        if (found == workloads.end())
            return {grpc::StatusCode::NOT_FOUND, fmt::format("there is no workload '{}'", name)};
        info = with_agent(describe(*found, *world), agents_by_workload());
        return grpc::Status::OK;
    }

    // Also one that has enrolled this very moment.
    grpc::Status find_also_new(const std::string& name, v1::WorkloadInfo& info) const
    {
        if (auto known = find_workload(name, info); known.ok())
            return known;
        if (auto refreshed = parts_.book.refresh(); !refreshed)
            return to_grpc(refreshed.error());
        return find_workload(name, info);
    }

    ApiParts parts_;
    const std::int64_t started_us_;
    std::atomic<int> followers_{0};
};

} // namespace

std::unique_ptr<grpc::Service> make_admin_service(ApiParts parts)
{
    return std::make_unique<AdminService>(parts);
}

} // namespace bulkhead::controller
