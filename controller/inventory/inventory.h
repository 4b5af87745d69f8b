// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/clock.h"
#include "controller.pb.h"
#include "controller/store/control_store.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace bulkhead::controller {

// An address that a workload claims and another one has: the other keeps it.
struct ContestedAddress {
    IpAddress address;
    std::string owner, claimant;
    auto operator<=>(const ContestedAddress&) const = default;
};

// Who is there, as policy sees it: labels decided, every address with one owner.
struct Composition {
    policy::Inventory workloads; // by name
    std::map<std::string, std::map<std::string, std::string>>
        label_sources;                         // workload -> key -> agent|token|policy|admin
    std::map<std::string, std::string> agents; // agent id -> workload
    std::set<ContestedAddress> contested;
};

// One agent with what is known of it now.
struct AgentView {
    AgentRow row;
    bool connected = false;
    v1::Standing standing; // as it last told; empty after a restart of the controller
};

// Agents, labels by source and address claims, in memory and in the store. Acts of an admin and enrolments are in the
// store before they count; what agents say of themselves counts at once and is written by flush(). Thread-safe.
class Inventory {
public:
    [[nodiscard]] static Result<std::unique_ptr<Inventory>> load(ControlStore& store, const Clock& clock);

    // The workload of an agent whose certificate is accepted; nullopt: unknown or revoked.
    [[nodiscard]] std::optional<std::string> workload_of(const std::string& agent_id) const;
    [[nodiscard]] std::vector<AgentView> agents() const; // accepted ones, by workload

    // Takes over what the store's enrol() has done.
    void enrolled(const AgentRow& agent, const policy::Labels& proposed, const EnrolmentOutcome& outcome);
    void renewed(const std::string& agent_id, std::int64_t certificate_expires_us);

    // Each returns true when labels or addresses changed.
    bool connected(const std::string& agent_id, const v1::Hello& hello);
    bool reported(const std::string& agent_id, const v1::HostStatus& status);
    void answered(const std::string& agent_id, const v1::PolicyResult& result);
    void disconnected(const std::string& agent_id);

    // Workloads that the controller holds in quarantine, by name.
    [[nodiscard]] std::optional<QuarantineRow> quarantine_of(const std::string& workload) const;
    [[nodiscard]] std::vector<QuarantineRow> quarantines() const;
    Status set_quarantine(const QuarantineRow& quarantine, v1::Record audit);
    Status lift_quarantine(const std::string& workload, v1::Record audit);

    // Sets and removes labels of source admin. Usage error when a key to be removed is not the admin's, or malformed.
    Status label(const std::string& workload, const policy::Labels& set, const std::vector<std::string>& remove,
                 v1::Record audit);

    // Precedence of labels, key by key: admin, `workloads:` documents, token, agent. An address belongs to the document
    // that names it, else to the workload that claimed it first.
    [[nodiscard]] Composition compose(const policy::PolicySet& policy) const;

    // Writes what has changed since the last call. On an Error everything stays to be written.
    Status flush();

private:
    struct Agent {
        AgentRow row;
        bool connected = false;
        bool dirty = false;
        v1::Standing standing{};
    };
    Inventory(ControlStore& store, const Clock& clock) : store_(store), clock_(clock) {}

    bool claim(const std::string& workload, const std::vector<IpAddress>& addresses);
    Agent* find(const std::string& agent_id);

    ControlStore& store_;
    const Clock& clock_;
    mutable std::mutex mutex_;
    std::map<std::string, Agent> agents_; // by id; revoked ones too
    std::map<std::string, LabelsBySource> labels_;
    std::map<std::string, QuarantineRow> quarantines_; // by workload
    std::map<std::string, std::map<IpAddress, std::int64_t>> claims_; // workload -> address -> first seen
};

} // namespace bulkhead::controller
