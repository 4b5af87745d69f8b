// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/policy/host_policy.h"
#include "common/policy/parse.h"
#include "record.pb.h"

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace bulkhead::controller {

// How it went with a version that was applied with a confirm window. Numbers are stored.
enum class TrialOutcome { pending = 0, confirmed = 1, lapsed = 2, rolled_back = 3, replaced = 4 };

struct TrialRow {
    std::int64_t window_us = 0;
    std::int64_t until_us = 0;
    TrialOutcome outcome = TrialOutcome::pending;
    std::int64_t ended_us = 0; // when it was confirmed, or ended otherwise
    std::string ended_by{};
};

struct PolicyVersion {
    std::uint64_t version = 0;
    std::int64_t created_us = 0;
    std::string author, message;
    std::vector<policy::SourceFile> files;
    std::optional<TrialRow> trial{}; // none: it was applied for good
};

struct TrialEnd {
    std::uint64_t version = 0;
    TrialOutcome outcome = TrialOutcome::lapsed;
    std::int64_t ended_us = 0;
    std::string ended_by;
};

// A workload whose host is cut off but for failsafes.
struct QuarantineRow {
    std::string workload, by, reason;
    std::int64_t since_us = 0;
    std::int64_t until_us = 0; // 0: until it is released
};

struct NewToken {
    std::string secret_hash; // SHA-256, lower-case hex: the secret itself is never stored
    std::int64_t expires_us = 0;
    std::uint32_t uses = 1;
    policy::Labels labels;
};

enum class LabelSource { agent = 0, token = 1, admin = 2 };
using LabelsBySource = std::map<LabelSource, policy::Labels>;

// One enrolled agent: who it is and what it last said of itself.
struct AgentRow {
    std::string id;
    std::string workload; // the host's name
    bool revoked = false; // its certificate is no longer accepted
    std::int64_t enrolled_us = 0;
    std::int64_t last_seen_us = 0;
    std::int64_t certificate_expires_us = 0;
    std::string agent_version, kernel_release;
    std::uint64_t policy_version = 0; // of its last answer
    bool enforced = false;
    std::string refusal;
    std::uint64_t records_spooled = 0;
    std::uint64_t records_lost = 0;
    std::uint64_t last_seq = 0; // written by RecordStore
};

struct AddressClaim {
    IpAddress address;
    std::string workload;
    std::int64_t first_seen_us = 0;
    auto operator<=>(const AddressClaim&) const = default;
};

struct Enrolment {
    std::string secret_hash;
    AgentRow agent;
    policy::Labels proposed; // by the agent
};
struct EnrolmentOutcome {
    policy::Labels token_labels;
    std::vector<std::string> replaced; // agent ids of the same workload, now revoked
};

struct InventoryRows {
    std::vector<AgentRow> agents;
    std::map<std::string, LabelsBySource> labels; // by workload
    std::vector<AddressClaim> claims;             // oldest first
};

// What one workload's agent says of itself; replaces what was stored of it.
struct HostFacts {
    AgentRow agent;
    policy::Labels labels;
    std::vector<AddressClaim> claims;
};

struct NumberedIdentity {
    policy::IdentityId id = 0;
    std::string key; // canonical form of label set and named workload
};

// Everything that is not a flow: policy, tokens, agents, labels, numbers. Each call is one transaction: it happened
// whole and is on the disk, or it is an Error and nothing changed. A call that takes an audit record stores it in that
// transaction. Thread-safe.
class ControlStore {
public:
    virtual ~ControlStore() = default;

    // The version is the caller's, the newest one plus 1; fails when somebody else has stored that one. With `ends`,
    // the trial that the new version takes the place of ends.
    virtual Status append_policy(const PolicyVersion& policy, const std::optional<TrialEnd>& ends,
                                 const v1::Record& audit) = 0;
    // Refused when that version is not on trial.
    virtual Status end_trial(const TrialEnd& end, const v1::Record& audit) = 0;
    virtual Result<std::optional<PolicyVersion>> policy(std::uint64_t version) = 0; // 0: the newest
    // Newest first, without files.
    virtual Result<std::vector<PolicyVersion>> policies() = 0;

    virtual Status add_token(const NewToken& token, const v1::Record& audit) = 0;
    // True when a token with this hash has uses left and has not expired.
    virtual Result<bool> token_valid(const std::string& secret_hash, std::int64_t now_us) = 0;
    // Spends one use, stores the agent, revokes earlier agents of the same workload. Refused when the token is not
    // valid.
    virtual Result<EnrolmentOutcome> enrol(const Enrolment& enrolment, std::int64_t now_us,
                                           const v1::Record& audit) = 0;

    virtual Result<InventoryRows> load_inventory() = 0;
    virtual Status save_hosts(std::span<const HostFacts> hosts) = 0;
    virtual Status set_admin_labels(const std::string& workload, const policy::Labels& labels,
                                    const v1::Record& audit) = 0;
    virtual Status renew_certificate(const std::string& agent_id, std::int64_t expires_us, const v1::Record& audit) = 0;

    virtual Result<std::vector<NumberedIdentity>> identities() = 0;
    virtual Status add_identities(std::span<const NumberedIdentity> identities) = 0;

    virtual Result<std::vector<QuarantineRow>> quarantines() = 0;
    virtual Status set_quarantine(const QuarantineRow& quarantine, const v1::Record& audit) = 0;
    virtual Status lift_quarantine(const std::string& workload, const v1::Record& audit) = 0;

    virtual Status append_audit(const v1::Record& audit) = 0;
};

} // namespace bulkhead::controller
