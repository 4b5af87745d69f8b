// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "controller/store/sqlite.h"

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::controller {

// A prepared statement. Values bind in order of their ?; a failed bind shows at the next step().
class Statement {
public:
    Statement(sqlite3* database, sqlite3_stmt* statement) : database_(database), statement_(statement) {}

    Statement& text(std::string_view value);
    Statement& blob(std::string_view value);
    Statement& number(std::int64_t value);
    Statement& unsigned_number(std::uint64_t value) { return number(static_cast<std::int64_t>(value)); }

    // True: there is a row. After false or an Error the statement is ready to be bound again.
    Result<bool> step();
    Status run(); // for statements without rows

    [[nodiscard]] std::string column_bytes(int index) const;
    [[nodiscard]] std::int64_t column_number(int index) const;
    [[nodiscard]] std::uint64_t column_unsigned(int index) const
    {
        return static_cast<std::uint64_t>(column_number(index));
    }

private:
    struct Finalise {
        void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
    };
    void note(int code);
    void rewind();

    sqlite3* database_;
    std::unique_ptr<sqlite3_stmt, Finalise> statement_;
    int next_ = 1;
    int bind_error_ = SQLITE_OK;
};

// One connection. Not thread-safe.
class Connection {
public:
    [[nodiscard]] static Result<Connection> open(const SqliteOptions& options);

    Status execute(const char* sql); // statements without values
    [[nodiscard]] Result<Statement> prepare(std::string_view sql);
    [[nodiscard]] std::int64_t changes() const { return sqlite3_changes64(database_.get()); }

private:
    struct Close {
        void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
    };
    std::unique_ptr<sqlite3, Close> database_;
};

// Rolls back unless committed.
class Transaction {
public:
    [[nodiscard]] static Result<Transaction> begin(Connection& connection);
    Transaction(Transaction&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}
    Transaction& operator=(Transaction&&) = delete;
    ~Transaction();

    Status commit();

private:
    explicit Transaction(Connection& connection) : connection_(&connection) {}
    Connection* connection_;
};

// The writer's connection, used by one thread at a time, and readers' connections, which WAL lets run beside it.
class Database {
public:
    [[nodiscard]] static Result<std::shared_ptr<Database>> open(const SqliteOptions& options);

    class Writer {
    public:
        explicit Writer(Database& database) : lock_(database.mutex_), connection_(database.writer_) {}
        Connection* operator->() { return &connection_; }
        Connection& operator*() { return connection_; }

    private:
        std::unique_lock<std::mutex> lock_;
        Connection& connection_;
    };
    [[nodiscard]] Writer writer() { return Writer(*this); }

    class Reader {
    public:
        Reader(Database& database, Connection connection) : database_(&database), connection_(std::move(connection)) {}
        Reader(Reader&& other) noexcept
            : database_(std::exchange(other.database_, nullptr)), connection_(std::move(other.connection_))
        {}
        Reader& operator=(Reader&&) = delete;
        ~Reader();
        Connection* operator->() { return &connection_; }

    private:
        Database* database_;
        Connection connection_;
    };
    [[nodiscard]] Result<Reader> reader();

private:
    Database(SqliteOptions options, Connection writer) : options_(std::move(options)), writer_(std::move(writer)) {}

    SqliteOptions options_;
    std::mutex mutex_;
    Connection writer_;
    std::mutex readers_mutex_;
    std::vector<Connection> idle_readers_;
};

// Stores one audit record with the controller's next seq, inside the caller's transaction.
Status insert_audit(Connection& connection, v1::Record record);
// One record; true when it was new.
Result<bool> insert_record(Connection& connection, Statement& insert, const std::string& agent_id,
                           const v1::Record& record);
[[nodiscard]] Result<Statement> prepare_insert(Connection& connection);

[[nodiscard]] std::unique_ptr<ControlStore> make_sqlite_control(std::shared_ptr<Database> database);
[[nodiscard]] std::unique_ptr<RecordStore> make_sqlite_records(std::shared_ptr<Database> database);

} // namespace bulkhead::controller
