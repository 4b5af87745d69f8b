// SPDX-License-Identifier: Apache-2.0
#include "controller/store/audit.h"
#include "controller/store/database.h"

#include <algorithm>

namespace bulkhead::controller {
namespace {

Result<StoredRecord> read_row(const Statement& row)
{
    StoredRecord stored;
    stored.arrival = row.column_unsigned(0);
    if (!stored.record.ParseFromString(row.column_bytes(1)))
        return fail(ErrorKind::failed, "store: record {} is damaged", stored.arrival);
    return stored;
}

Result<std::vector<StoredRecord>> read_rows(Statement& query)
{
    std::vector<StoredRecord> records;
    for (;;) {
        BULKHEAD_TRY(const bool row, query.step());
        if (!row)
            return records;
        BULKHEAD_TRY(auto stored, read_row(query));
        records.push_back(std::move(stored));
    }
}

std::string list_of(const std::vector<int>& numbers)
{
    return fmt::format("({})", fmt::join(numbers, ","));
}

Result<std::uint64_t> last_seq_of(Connection& connection, const std::string& agent_id)
{
    BULKHEAD_TRY(auto query, connection.prepare("SELECT last_seq FROM progress WHERE agent_id = ?"));
    BULKHEAD_TRY(const bool row, query.text(agent_id).step());
    return row ? query.column_unsigned(0) : 0;
}

Status save_progress(Connection& connection, const std::string& agent_id, std::uint64_t last_seq, std::uint64_t missing)
{
    BULKHEAD_TRY(auto save,
                 connection.prepare("INSERT INTO progress VALUES (?, ?, ?) ON CONFLICT(agent_id) DO UPDATE SET "
                                    "last_seq = excluded.last_seq, missing = missing + excluded.missing"));
    return save.text(agent_id).unsigned_number(last_seq).unsigned_number(missing).run();
}

class SqliteRecords final : public RecordStore {
public:
    explicit SqliteRecords(std::shared_ptr<Database> database) : database_(std::move(database)) {}

    Result<std::vector<BatchOutcome>> append(std::span<const AgentBatch> batches) override
    {
        auto writer = database_->writer();
        BULKHEAD_TRY(auto transaction, Transaction::begin(*writer));
        BULKHEAD_TRY(auto insert, prepare_insert(*writer));
        std::vector<BatchOutcome> outcomes;
        for (const auto& batch : batches) {
            BULKHEAD_TRY(const auto outcome, append_one(*writer, insert, batch));
            outcomes.push_back(outcome);
        }
        BULKHEAD_CHECK(transaction.commit());
        return outcomes;
    }

    Result<std::uint64_t> last_seq(const std::string& agent_id) override
    {
        auto writer = database_->writer();
        return last_seq_of(*writer, agent_id);
    }

    Result<std::uint64_t> newest_arrival() override
    {
        BULKHEAD_TRY(auto reader, database_->reader());
        BULKHEAD_TRY(auto query, reader->prepare("SELECT coalesce(max(arrival), 0) FROM records"));
        BULKHEAD_TRY(const bool row, query.step());
        return row ? query.column_unsigned(0) : 0;
    }

    Result<std::vector<StoredRecord>> scan(const RecordScan& scan) override
    {
        BULKHEAD_TRY(auto reader, database_->reader());
        const bool down = scan.newest_first;
        // The + keeps SQLite from walking the table by arrival and sorting it: the index on time is in the order asked
        // for.
        std::string sql = "SELECT arrival, record FROM records WHERE +arrival <= ?";
        if (scan.since_us != 0)
            sql += " AND time_us >= ?";
        if (scan.until_us != 0)
            sql += " AND time_us < ?";
        if (scan.after.arrival != 0)
            sql += down ? " AND (time_us, arrival) < (?, ?)" : " AND (time_us, arrival) > (?, ?)";
        if (!scan.kinds.empty())
            sql += fmt::format(" AND kind IN {}", list_of(scan.kinds));
        if (!scan.verdicts.empty())
            sql += fmt::format(" AND (verdict IN {} OR kind = {})", list_of(scan.verdicts),
                               static_cast<int>(v1::Record::GAP));
        sql += down ? " ORDER BY time_us DESC, arrival DESC LIMIT ?" : " ORDER BY time_us, arrival LIMIT ?";
        BULKHEAD_TRY(auto query, reader->prepare(sql));
        query.unsigned_number(scan.up_to_arrival);
        if (scan.since_us != 0)
            query.number(scan.since_us);
        if (scan.until_us != 0)
            query.number(scan.until_us);
        if (scan.after.arrival != 0)
            query.number(scan.after.time_us).unsigned_number(scan.after.arrival);
        return read_rows(query.number(scan.limit));
    }

    Result<std::vector<StoredRecord>> after(std::uint64_t arrival, std::uint32_t limit) override
    {
        BULKHEAD_TRY(auto reader, database_->reader());
        BULKHEAD_TRY(auto query,
                     reader->prepare("SELECT arrival, record FROM records WHERE arrival > ? ORDER BY arrival LIMIT ?"));
        return read_rows(query.unsigned_number(arrival).number(limit));
    }

private:
    static Result<BatchOutcome> append_one(Connection& connection, Statement& insert, const AgentBatch& batch)
    {
        BatchOutcome outcome;
        BULKHEAD_TRY(outcome.last_seq, last_seq_of(connection, batch.agent_id));
        for (const auto& record : batch.records) {
            BULKHEAD_TRY(const bool is_new, insert_record(connection, insert, batch.agent_id, record));
            if (!is_new)
                ++outcome.duplicates;
            if (record.seq() > outcome.last_seq + 1)
                outcome.missing += record.seq() - outcome.last_seq - 1;
            outcome.last_seq = std::max(outcome.last_seq, record.seq());
        }
        BULKHEAD_CHECK(save_progress(connection, batch.agent_id, outcome.last_seq, outcome.missing));
        return outcome;
    }

    std::shared_ptr<Database> database_;
};

} // namespace

Result<Statement> prepare_insert(Connection& connection)
{
    return connection.prepare("INSERT INTO records (agent_id, seq, time_us, kind, verdict, record) "
                              "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT(agent_id, seq) DO NOTHING");
}

Result<bool> insert_record(Connection& connection, Statement& insert, const std::string& agent_id,
                           const v1::Record& record)
{
    BULKHEAD_CHECK(insert.text(agent_id)
                       .unsigned_number(record.seq())
                       .number(record.time_us())
                       .number(record.kind())
                       .number(record.verdict())
                       .blob(record.SerializeAsString())
                       .run());
    return connection.changes() > 0;
}

Status insert_audit(Connection& connection, v1::Record record)
{
    BULKHEAD_TRY(const auto last, last_seq_of(connection, controller_agent_id));
    record.set_seq(last + 1);
    BULKHEAD_TRY(auto insert, prepare_insert(connection));
    BULKHEAD_TRY(const bool is_new, insert_record(connection, insert, controller_agent_id, record));
    if (!is_new)
        return fail(ErrorKind::failed, "store: audit record {} exists already", record.seq());
    return save_progress(connection, controller_agent_id, last + 1, 0);
}

std::unique_ptr<RecordStore> make_sqlite_records(std::shared_ptr<Database> database)
{
    return std::make_unique<SqliteRecords>(std::move(database));
}

} // namespace bulkhead::controller
