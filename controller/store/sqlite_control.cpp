// SPDX-License-Identifier: Apache-2.0
#include "controller/store/database.h"

#include <openssl/crypto.h>

#include <algorithm>

namespace bulkhead::controller {
namespace {

Status insert_labels(Connection& connection, const std::string& workload, LabelSource source,
                     const policy::Labels& labels)
{
    BULKHEAD_TRY(auto clear, connection.prepare("DELETE FROM labels WHERE workload = ? AND source = ?"));
    BULKHEAD_CHECK(clear.text(workload).number(static_cast<int>(source)).run());
    BULKHEAD_TRY(auto insert, connection.prepare("INSERT INTO labels VALUES (?, ?, ?, ?)"));
    for (const auto& [key, value] : labels)
        BULKHEAD_CHECK(insert.text(workload).number(static_cast<int>(source)).text(key).text(value).run());
    return {};
}

// A valid token's row. The index finds it by its first digits and the rest is compared in constant time, so that the
// time this takes tells nothing of how much of a guess was right.
Result<std::optional<std::string>> find_token(Connection& connection, const std::string& secret_hash,
                                              std::int64_t now_us)
{
    constexpr std::size_t prefix = 8;
    if (secret_hash.size() <= prefix)
        return std::nullopt;
    BULKHEAD_TRY(auto query, connection.prepare("SELECT secret_hash FROM tokens WHERE secret_hash BETWEEN ? AND ? "
                                                "AND uses_left > 0 AND expires_us > ?"));
    query.text(secret_hash.substr(0, prefix)).text(secret_hash.substr(0, prefix) + "g").number(now_us);
    std::optional<std::string> found;
    for (;;) {
        BULKHEAD_TRY(const bool row, query.step());
        if (!row)
            return found;
        auto candidate = query.column_bytes(0);
        if (candidate.size() == secret_hash.size() &&
            CRYPTO_memcmp(candidate.data(), secret_hash.data(), candidate.size()) == 0)
            found = std::move(candidate);
    }
}

Status insert_agent(Connection& connection, const AgentRow& agent)
{
    BULKHEAD_TRY(auto insert, connection.prepare("INSERT INTO agents VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    return insert.text(agent.id)
        .text(agent.workload)
        .number(agent.revoked ? 1 : 0)
        .number(agent.enrolled_us)
        .number(agent.last_seen_us)
        .number(agent.certificate_expires_us)
        .text(agent.agent_version)
        .text(agent.kernel_release)
        .unsigned_number(agent.policy_version)
        .number(agent.enforced ? 1 : 0)
        .text(agent.refusal)
        .unsigned_number(agent.records_spooled)
        .unsigned_number(agent.records_lost)
        .run();
}

// What an agent says of itself; never what the controller decides of it.
Status update_agent(Connection& connection, const AgentRow& agent)
{
    BULKHEAD_TRY(
        auto update,
        connection.prepare("UPDATE agents SET last_seen_us = ?, agent_version = ?, kernel_release = ?, "
                           "policy_version = ?, enforced = ?, refusal = ?, records_spooled = ?, records_lost = ? "
                           "WHERE id = ? AND revoked = 0"));
    return update.number(agent.last_seen_us)
        .text(agent.agent_version)
        .text(agent.kernel_release)
        .unsigned_number(agent.policy_version)
        .number(agent.enforced ? 1 : 0)
        .text(agent.refusal)
        .unsigned_number(agent.records_spooled)
        .unsigned_number(agent.records_lost)
        .text(agent.id)
        .run();
}

Result<std::vector<std::string>> revoke_agents_of(Connection& connection, const std::string& workload)
{
    std::vector<std::string> revoked;
    BULKHEAD_TRY(auto query, connection.prepare("SELECT id FROM agents WHERE workload = ? AND revoked = 0"));
    query.text(workload);
    for (;;) {
        BULKHEAD_TRY(const bool row, query.step());
        if (!row)
            break;
        revoked.push_back(query.column_bytes(0));
    }
    BULKHEAD_TRY(auto update, connection.prepare("UPDATE agents SET revoked = 1 WHERE workload = ?"));
    BULKHEAD_CHECK(update.text(workload).run());
    return revoked;
}

Result<policy::Labels> labels_of_token(Connection& connection, const std::string& secret_hash)
{
    policy::Labels labels;
    BULKHEAD_TRY(auto query, connection.prepare("SELECT key, value FROM token_labels WHERE secret_hash = ?"));
    query.text(secret_hash);
    for (;;) {
        BULKHEAD_TRY(const bool row, query.step());
        if (!row)
            return labels;
        labels[query.column_bytes(0)] = query.column_bytes(1);
    }
}

AgentRow read_agent(const Statement& row)
{
    AgentRow agent;
    agent.id = row.column_bytes(0);
    agent.workload = row.column_bytes(1);
    agent.revoked = row.column_number(2) != 0;
    agent.enrolled_us = row.column_number(3);
    agent.last_seen_us = row.column_number(4);
    agent.certificate_expires_us = row.column_number(5);
    agent.agent_version = row.column_bytes(6);
    agent.kernel_release = row.column_bytes(7);
    agent.policy_version = row.column_unsigned(8);
    agent.enforced = row.column_number(9) != 0;
    agent.refusal = row.column_bytes(10);
    agent.records_spooled = row.column_unsigned(11);
    agent.records_lost = row.column_unsigned(12);
    agent.last_seq = row.column_unsigned(13);
    return agent;
}

Result<AddressClaim> read_claim(const Statement& row)
{
    AddressClaim claim;
    const auto bytes = row.column_bytes(1);
    if (bytes.size() != claim.address.bytes.size())
        return fail(ErrorKind::failed, "store: an address claim of '{}' is damaged", row.column_bytes(0));
    std::copy(bytes.begin(), bytes.end(), claim.address.bytes.begin());
    claim.workload = row.column_bytes(0);
    claim.first_seen_us = row.column_number(2);
    return claim;
}

Status close_trial(Connection& connection, const TrialEnd& end)
{
    BULKHEAD_TRY(auto update, connection.prepare("UPDATE trials SET outcome = ?, ended_us = ?, ended_by = ? WHERE "
                                                 "version = ? AND outcome = 0"));
    BULKHEAD_CHECK(update.number(static_cast<int>(end.outcome))
                       .number(end.ended_us)
                       .text(end.ended_by)
                       .unsigned_number(end.version)
                       .run());
    if (connection.changes() == 0)
        return fail(ErrorKind::refused, "policy version {} is not on trial", end.version);
    return {};
}

Status insert_trial(Connection& connection, std::uint64_t version, const TrialRow& trial)
{
    BULKHEAD_TRY(auto insert, connection.prepare("INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?)"));
    return insert.unsigned_number(version)
        .number(trial.window_us)
        .number(trial.until_us)
        .number(static_cast<int>(trial.outcome))
        .number(trial.ended_us)
        .text(trial.ended_by)
        .run();
}

constexpr const char* policy_columns =
    "SELECT policies.version, created_us, author, message, window_us, until_us, outcome, ended_us, ended_by "
    "FROM policies LEFT JOIN trials ON trials.version = policies.version";

PolicyVersion read_policy(Statement& row)
{
    PolicyVersion policy{
        row.column_unsigned(0), row.column_number(1), row.column_bytes(2), row.column_bytes(3), {}, {}};
    if (row.column_number(4) != 0) // a window is never empty
        policy.trial =
            TrialRow{row.column_number(4), row.column_number(5), static_cast<TrialOutcome>(row.column_number(6)),
                     row.column_number(7), row.column_bytes(8)};
    return policy;
}

class SqliteControl final : public ControlStore {
public:
    explicit SqliteControl(std::shared_ptr<Database> database) : database_(std::move(database)) {}

    Status append_policy(const PolicyVersion& policy, const std::optional<TrialEnd>& ends,
                         const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto insert, writer->prepare("INSERT INTO policies VALUES (?, ?, ?, ?)"));
        BULKHEAD_CHECK(insert.unsigned_number(policy.version)
                           .number(policy.created_us)
                           .text(policy.author)
                           .text(policy.message)
                           .run());
        BULKHEAD_TRY(auto file, writer->prepare("INSERT INTO policy_files VALUES (?, ?, ?, ?)"));
        std::int64_t position = 0;
        for (const auto& source : policy.files)
            BULKHEAD_CHECK(
                file.unsigned_number(policy.version).number(position++).text(source.name).blob(source.text).run());
        if (policy.trial)
            BULKHEAD_CHECK(insert_trial(*writer, policy.version, *policy.trial));
        if (ends)
            BULKHEAD_CHECK(close_trial(*writer, *ends));
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

    Result<std::optional<PolicyVersion>> policy(std::uint64_t version) override
    {
        BULKHEAD_TRY(auto reader, database_->reader());
        BULKHEAD_TRY(auto query, reader->prepare(fmt::format("{} WHERE ?1 = 0 OR policies.version = ?1 "
                                                             "ORDER BY policies.version DESC LIMIT 1",
                                                             policy_columns)));
        BULKHEAD_TRY(const bool row, query.unsigned_number(version).step());
        if (!row)
            return std::nullopt;
        PolicyVersion policy = read_policy(query);
        BULKHEAD_TRY(auto files,
                     reader->prepare("SELECT name, text FROM policy_files WHERE version = ? ORDER BY position"));
        files.unsigned_number(policy.version);
        for (;;) {
            BULKHEAD_TRY(const bool file, files.step());
            if (!file)
                return policy;
            policy.files.push_back({files.column_bytes(0), files.column_bytes(1)});
        }
    }

    Result<std::vector<PolicyVersion>> policies() override
    {
        BULKHEAD_TRY(auto reader, database_->reader());
        BULKHEAD_TRY(auto query, reader->prepare(fmt::format("{} ORDER BY policies.version DESC", policy_columns)));
        std::vector<PolicyVersion> all;
        for (;;) {
            BULKHEAD_TRY(const bool row, query.step());
            if (!row)
                return all;
            all.push_back(read_policy(query));
        }
    }

    Status end_trial(const TrialEnd& end, const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_CHECK(close_trial(*writer, end));
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

    Result<std::vector<QuarantineRow>> quarantines() override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto query, writer->prepare("SELECT workload, imposed_by, reason, since_us, until_us "
                                                 "FROM quarantines ORDER BY workload"));
        std::vector<QuarantineRow> all;
        for (;;) {
            BULKHEAD_TRY(const bool row, query.step());
            if (!row)
                return all;
            all.push_back({query.column_bytes(0), query.column_bytes(1), query.column_bytes(2), query.column_number(3),
                           query.column_number(4)});
        }
    }

    Status set_quarantine(const QuarantineRow& quarantine, const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto insert, writer->prepare("INSERT OR REPLACE INTO quarantines VALUES (?, ?, ?, ?, ?)"));
        BULKHEAD_CHECK(insert.text(quarantine.workload)
                           .text(quarantine.by)
                           .text(quarantine.reason)
                           .number(quarantine.since_us)
                           .number(quarantine.until_us)
                           .run());
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

    Status lift_quarantine(const std::string& workload, const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto lift, writer->prepare("DELETE FROM quarantines WHERE workload = ?"));
        BULKHEAD_CHECK(lift.text(workload).run());
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

    Status add_token(const NewToken& token, const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto insert, writer->prepare("INSERT INTO tokens VALUES (?, ?, ?)"));
        BULKHEAD_CHECK(insert.text(token.secret_hash).number(token.expires_us).number(token.uses).run());
        BULKHEAD_TRY(auto label, writer->prepare("INSERT INTO token_labels VALUES (?, ?, ?)"));
        for (const auto& [key, value] : token.labels)
            BULKHEAD_CHECK(label.text(token.secret_hash).text(key).text(value).run());
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

    Result<bool> token_valid(const std::string& secret_hash, std::int64_t now_us) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(const auto token, find_token(*writer, secret_hash, now_us));
        return token.has_value();
    }

    Result<EnrolmentOutcome> enrol(const Enrolment& enrolment, std::int64_t now_us, const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(const auto token, find_token(*writer, enrolment.secret_hash, now_us));
        if (!token)
            return fail(ErrorKind::refused, "the join token is unknown, used up or expired");
        BULKHEAD_TRY(auto spend, writer->prepare("UPDATE tokens SET uses_left = uses_left - 1 WHERE secret_hash = ?"));
        BULKHEAD_CHECK(spend.text(*token).run());
        EnrolmentOutcome outcome;
        BULKHEAD_TRY(outcome.token_labels, labels_of_token(*writer, *token));
        const auto& agent = enrolment.agent;
        BULKHEAD_TRY(outcome.replaced, revoke_agents_of(*writer, agent.workload));
        BULKHEAD_CHECK(insert_agent(*writer, agent));
        BULKHEAD_CHECK(insert_labels(*writer, agent.workload, LabelSource::agent, enrolment.proposed));
        BULKHEAD_CHECK(insert_labels(*writer, agent.workload, LabelSource::token, outcome.token_labels));
        auto told = audit;
        if (!outcome.replaced.empty())
            told.mutable_audit()->set_message(
                fmt::format("{} (replaces {})", audit.audit().message(), fmt::join(outcome.replaced, ", ")));
        BULKHEAD_CHECK(insert_audit(*writer, std::move(told)));
        BULKHEAD_CHECK(transaction.commit());
        return outcome;
    }

    Result<InventoryRows> load_inventory() override
    {
        auto writer = database_->writer();
        InventoryRows rows;
        BULKHEAD_TRY(auto agents,
                     writer->prepare("SELECT agents.*, coalesce(progress.last_seq, 0) FROM agents LEFT JOIN "
                                     "progress ON progress.agent_id = agents.id ORDER BY enrolled_us"));
        for (;;) {
            BULKHEAD_TRY(const bool row, agents.step());
            if (!row)
                break;
            rows.agents.push_back(read_agent(agents));
        }
        BULKHEAD_TRY(auto labels, writer->prepare("SELECT workload, source, key, value FROM labels"));
        for (;;) {
            BULKHEAD_TRY(const bool row, labels.step());
            if (!row)
                break;
            const auto source = static_cast<LabelSource>(labels.column_number(1));
            rows.labels[labels.column_bytes(0)][source][labels.column_bytes(2)] = labels.column_bytes(3);
        }
        BULKHEAD_TRY(auto claims, writer->prepare("SELECT workload, address, first_seen_us FROM address_claims "
                                                  "ORDER BY first_seen_us, workload, address"));
        for (;;) {
            BULKHEAD_TRY(const bool row, claims.step());
            if (!row)
                return rows;
            BULKHEAD_TRY(auto claim, read_claim(claims));
            rows.claims.push_back(std::move(claim));
        }
    }

    Status save_hosts(std::span<const HostFacts> hosts) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto clear, writer->prepare("DELETE FROM address_claims WHERE workload = ?"));
        BULKHEAD_TRY(auto claim, writer->prepare("INSERT INTO address_claims VALUES (?, ?, ?)"));
        for (const auto& host : hosts) {
            BULKHEAD_CHECK(update_agent(*writer, host.agent));
            if (writer->changes() == 0) // revoked since: the workload's facts are its next agent's
                continue;
            BULKHEAD_CHECK(insert_labels(*writer, host.agent.workload, LabelSource::agent, host.labels));
            BULKHEAD_CHECK(clear.text(host.agent.workload).run());
            for (const auto& one : host.claims) {
                const std::string bytes(one.address.bytes.begin(), one.address.bytes.end());
                BULKHEAD_CHECK(claim.text(one.workload).blob(bytes).number(one.first_seen_us).run());
            }
        }
        return transaction.commit();
    }

    Status set_admin_labels(const std::string& workload, const policy::Labels& labels, const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_CHECK(insert_labels(*writer, workload, LabelSource::admin, labels));
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

    Status renew_certificate(const std::string& agent_id, std::int64_t expires_us, const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto update, writer->prepare("UPDATE agents SET certificate_expires_us = ? WHERE id = ?"));
        BULKHEAD_CHECK(update.number(expires_us).text(agent_id).run());
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

    Result<std::vector<NumberedIdentity>> identities() override
    {
        auto writer = database_->writer();
        std::vector<NumberedIdentity> all;
        BULKHEAD_TRY(auto query, writer->prepare("SELECT id, key FROM identities ORDER BY id"));
        for (;;) {
            BULKHEAD_TRY(const bool row, query.step());
            if (!row)
                return all;
            all.push_back({static_cast<policy::IdentityId>(query.column_number(0)), query.column_bytes(1)});
        }
    }

    Status add_identities(std::span<const NumberedIdentity> identities) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto insert, writer->prepare("INSERT INTO identities VALUES (?, ?)"));
        for (const auto& identity : identities)
            BULKHEAD_CHECK(insert.number(identity.id).text(identity.key).run());
        return transaction.commit();
    }

    Status append_audit(const v1::Record& audit) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_CHECK(insert_audit(*writer, audit));
        return transaction.commit();
    }

private:
    std::shared_ptr<Database> database_;
};

} // namespace

std::unique_ptr<ControlStore> make_sqlite_control(std::shared_ptr<Database> database)
{
    return std::make_unique<SqliteControl>(std::move(database));
}

} // namespace bulkhead::controller
