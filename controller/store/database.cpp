// SPDX-License-Identifier: Apache-2.0
#include "controller/store/database.h"

#include "controller/store/migrations.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace bulkhead::controller {
namespace {

constexpr int busy_timeout_ms = 5000;
constexpr std::size_t max_idle_readers = 8;

tl::unexpected<Error> fail_sqlite(sqlite3* database, int code, std::string_view what)
{
    const char* text = database == nullptr ? sqlite3_errstr(code) : sqlite3_errmsg(database);
    auto error = fail(ErrorKind::failed, "store: {}: {}", what, text);
    if ((code & 0xff) == SQLITE_FULL)
        error.value().mend = "make room on the disk that holds the database";
    return error;
}

} // namespace

void Statement::note(int code)
{
    if (code != SQLITE_OK && bind_error_ == SQLITE_OK)
        bind_error_ = code;
}

Statement& Statement::text(std::string_view value)
{
    note(sqlite3_bind_text64(statement_.get(), next_++, value.data() == nullptr ? "" : value.data(), value.size(),
                             SQLITE_TRANSIENT, SQLITE_UTF8));
    return *this;
}

Statement& Statement::blob(std::string_view value)
{
    note(sqlite3_bind_blob64(statement_.get(), next_++, value.data() == nullptr ? "" : value.data(), value.size(),
                             SQLITE_TRANSIENT));
    return *this;
}

Statement& Statement::number(std::int64_t value)
{
    note(sqlite3_bind_int64(statement_.get(), next_++, value));
    return *this;
}

void Statement::rewind()
{
    sqlite3_reset(statement_.get());
    next_ = 1;
    bind_error_ = SQLITE_OK;
}

Result<bool> Statement::step()
{
    const int code = bind_error_ != SQLITE_OK ? bind_error_ : sqlite3_step(statement_.get());
    if (code == SQLITE_ROW)
        return true;
    if (code == SQLITE_DONE) {
        rewind();
        return false;
    }
    auto error = fail_sqlite(database_, code, sqlite3_sql(statement_.get()));
    rewind();
    return error;
}

Status Statement::run()
{
    for (;;) {
        BULKHEAD_TRY(const bool row, step());
        if (!row)
            return {};
    }
}

std::string Statement::column_bytes(int index) const
{
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_.get(), index));
    const auto size = sqlite3_column_bytes(statement_.get(), index);
    return data == nullptr ? std::string() : std::string(data, static_cast<std::size_t>(size));
}

std::int64_t Statement::column_number(int index) const
{
    return sqlite3_column_int64(statement_.get(), index);
}

Result<Connection> Connection::open(const SqliteOptions& options)
{
    Connection connection;
    sqlite3* raw = nullptr;
    const int code = sqlite3_open_v2(options.path.c_str(), &raw,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
    connection.database_.reset(raw);
    if (code != SQLITE_OK)
        return fail_sqlite(raw, code, fmt::format("open {}", options.path));
    sqlite3_extended_result_codes(raw, 1);
    sqlite3_busy_timeout(raw, busy_timeout_ms);
    // FULL: what was acknowledged to an agent, which then forgets it, must outlive a power failure.
    BULKHEAD_CHECK(
        connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"));
    return connection;
}

Status Connection::execute(const char* sql)
{
    const int code = sqlite3_exec(database_.get(), sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK)
        return fail_sqlite(database_.get(), code, sql);
    return {};
}

Result<Statement> Connection::prepare(std::string_view sql)
{
    sqlite3_stmt* raw = nullptr;
    const int code = sqlite3_prepare_v2(database_.get(), sql.data(), static_cast<int>(sql.size()), &raw, nullptr);
    if (code != SQLITE_OK)
        return fail_sqlite(database_.get(), code, sql);
    return Statement(database_.get(), raw);
}

Result<Transaction> Transaction::begin(Connection& connection)
{
    BULKHEAD_CHECK(connection.execute("BEGIN IMMEDIATE"));
    return Transaction(connection);
}

Transaction::~Transaction()
{
    // SQLite has rolled back by itself after some errors (a full disk); saying it again is then an error without
    // meaning.
    if (connection_ != nullptr)
        static_cast<void>(connection_->execute("ROLLBACK"));
}

Status Transaction::commit()
{
    BULKHEAD_CHECK(connection_->execute("COMMIT"));
    connection_ = nullptr;
    return {};
}

Result<std::shared_ptr<Database>> Database::open(const SqliteOptions& options)
{
    // Made here with the mode that it must have: it holds token hashes and everything that hosts report.
    const int fd = ::open(options.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno(errno, fmt::format("store: open {}", options.path));
    ::close(fd);
    BULKHEAD_TRY(auto writer, Connection::open(options));
    BULKHEAD_CHECK(migrate(writer));
    if (options.max_bytes != 0) {
        BULKHEAD_TRY(auto page, writer.prepare("PRAGMA page_size"));
        BULKHEAD_TRY(const bool row, page.step());
        const auto page_size = row ? page.column_unsigned(0) : 4096;
        BULKHEAD_CHECK(
            writer.execute(fmt::format("PRAGMA max_page_count = {}", options.max_bytes / page_size + 1).c_str()));
    }
    return std::shared_ptr<Database>(new Database(options, std::move(writer)));
}

Result<Database::Reader> Database::reader()
{
    {
        const std::lock_guard lock(readers_mutex_);
        if (!idle_readers_.empty()) {
            auto connection = std::move(idle_readers_.back());
            idle_readers_.pop_back();
            return Reader(*this, std::move(connection));
        }
    }
    BULKHEAD_TRY(auto connection, Connection::open(options_));
    BULKHEAD_CHECK(connection.execute("PRAGMA query_only = ON"));
    return Reader(*this, std::move(connection));
}

Database::Reader::~Reader()
{
    if (database_ == nullptr)
        return;
    const std::lock_guard lock(database_->readers_mutex_);
    if (database_->idle_readers_.size() < max_idle_readers)
        database_->idle_readers_.push_back(std::move(connection_));
}

Result<Stores> open_sqlite(const SqliteOptions& options)
{
    BULKHEAD_TRY(auto database, Database::open(options));
    return Stores{make_sqlite_control(database), make_sqlite_records(database)};
}

} // namespace bulkhead::controller
