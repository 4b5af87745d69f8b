// SPDX-License-Identifier: Apache-2.0
#include "controller/store/migrations.h"

#include <array>

namespace bulkhead::controller {
namespace {

// A step is never edited once released; a change is a new step at the end.
constexpr std::array<const char*, 2> steps = {R"sql(
CREATE TABLE policies (
    version INTEGER PRIMARY KEY,
    created_us INTEGER NOT NULL,
    author TEXT NOT NULL,
    message TEXT NOT NULL
);
CREATE TABLE policy_files (
    version INTEGER NOT NULL REFERENCES policies(version),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    text BLOB NOT NULL,
    PRIMARY KEY (version, position)
) WITHOUT ROWID;
CREATE TABLE tokens (
    secret_hash TEXT PRIMARY KEY,
    expires_us INTEGER NOT NULL,
    uses_left INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE token_labels (
    secret_hash TEXT NOT NULL REFERENCES tokens(secret_hash) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (secret_hash, key)
) WITHOUT ROWID;
CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    workload TEXT NOT NULL,
    revoked INTEGER NOT NULL,
    enrolled_us INTEGER NOT NULL,
    last_seen_us INTEGER NOT NULL,
    certificate_expires_us INTEGER NOT NULL,
    agent_version TEXT NOT NULL,
    kernel_release TEXT NOT NULL,
    policy_version INTEGER NOT NULL,
    enforced INTEGER NOT NULL,
    refusal TEXT NOT NULL,
    records_spooled INTEGER NOT NULL,
    records_lost INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX agents_by_workload ON agents(workload);
CREATE TABLE labels (
    workload TEXT NOT NULL,
    source INTEGER NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (workload, source, key)
) WITHOUT ROWID;
CREATE TABLE address_claims (
    workload TEXT NOT NULL,
    address BLOB NOT NULL,
    first_seen_us INTEGER NOT NULL,
    PRIMARY KEY (workload, address)
) WITHOUT ROWID;
CREATE TABLE identities (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE
);
CREATE TABLE records (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    agent_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    record BLOB NOT NULL,
    UNIQUE (agent_id, seq)
);
CREATE INDEX records_by_time ON records(time_us, arrival, kind, verdict);
CREATE TABLE progress (
    agent_id TEXT PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    missing INTEGER NOT NULL
) WITHOUT ROWID;
)sql",
                                              R"sql(
CREATE TABLE trials (
    version INTEGER PRIMARY KEY REFERENCES policies(version),
    window_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL,
    outcome INTEGER NOT NULL,
    ended_us INTEGER NOT NULL,
    ended_by TEXT NOT NULL
);
CREATE TABLE quarantines (
    workload TEXT PRIMARY KEY,
    imposed_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_us INTEGER NOT NULL,
    until_us INTEGER NOT NULL
) WITHOUT ROWID;
)sql"};

Result<std::size_t> applied_steps(Connection& connection)
{
    BULKHEAD_CHECK(connection.execute(
        "CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied_at TEXT NOT NULL)"));
    BULKHEAD_TRY(auto query, connection.prepare("SELECT coalesce(max(number), 0) FROM migrations"));
    BULKHEAD_TRY(const bool row, query.step());
    return row ? static_cast<std::size_t>(query.column_number(0)) : 0;
}

} // namespace

Status migrate(Connection& connection)
{
    BULKHEAD_TRY(const auto applied, applied_steps(connection));
    if (applied > steps.size())
        return tl::unexpected<Error>(
            Error{ErrorKind::refused,
                  fmt::format("store: the database is at schema {}, and this program knows no further than {}", applied,
                              steps.size()),
                  "run the version of bulkhead-controller that made it, or a newer one"});
    for (std::size_t step = applied; step < steps.size(); ++step) {
        BULKHEAD_TRY(auto transaction, Transaction::begin(connection));
        BULKHEAD_CHECK(connection.execute(steps[step]));
        BULKHEAD_TRY(auto note, connection.prepare("INSERT INTO migrations VALUES (?, datetime('now'))"));
        BULKHEAD_CHECK(note.unsigned_number(step + 1).run());
        BULKHEAD_CHECK(transaction.commit());
    }
    return {};
}

} // namespace bulkhead::controller
