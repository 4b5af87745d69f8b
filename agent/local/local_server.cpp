// SPDX-License-Identifier: Apache-2.0
#include "agent/local/local_server.h"

#include "agent/local/policy_words.h"
#include "agent/local/record_query.h"
#include "common/core/unique_fd.h"
#include "local.grpc.pb.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr int max_streams = 16; // each follower holds a thread
constexpr int max_threads = 2 * max_streams;

grpc::Status to_status(const Error& error)
{
    auto code = grpc::StatusCode::INTERNAL;
    if (error.kind == ErrorKind::usage || error.kind == ErrorKind::invalid)
        code = grpc::StatusCode::INVALID_ARGUMENT;
    else if (error.kind == ErrorKind::refused)
        code = grpc::StatusCode::ABORTED;
    return {code, error.mend.empty() ? error.message : fmt::format("{} ({})", error.message, error.mend)};
}

class LocalService final : public v1::Local::Service {
public:
    LocalService(LocalQuestions questions, Spool& spool) : questions_(std::move(questions)), spool_(spool) {}

    void stop() { stopping_ = true; }

    grpc::Status GetStatus(grpc::ServerContext*, const v1::Empty*, v1::LocalStatus* reply) override
    {
        auto status = questions_.status();
        if (!status)
            return {grpc::StatusCode::UNAVAILABLE, "the agent is stopping"};
        *reply = std::move(*status);
        return grpc::Status::OK;
    }

    grpc::Status GetPolicy(grpc::ServerContext*, const v1::Empty*, v1::LocalPolicy* reply) override
    {
        if (const auto view = questions_.view()) {
            reply->set_policy_version(view->policy_version);
            for (auto& line : describe(*view))
                reply->add_lines(std::move(line));
        }
        return grpc::Status::OK;
    }

    grpc::Status SetQuarantine(grpc::ServerContext*, const v1::LocalQuarantine* wish, v1::LocalStatus* reply) override
    {
        auto done = questions_.set_quarantine(*wish);
        if (!done)
            return {grpc::StatusCode::UNAVAILABLE, "the agent is stopping"};
        if (!*done)
            return to_status(done->error());
        *reply = std::move(**done);
        return grpc::Status::OK;
    }

    grpc::Status GetMaps(grpc::ServerContext*, const v1::MapsQuery* query, v1::LocalMaps* reply) override
    {
        const auto contents = questions_.maps();
        if (!contents)
            return {grpc::StatusCode::UNAVAILABLE, "the agent is stopping"};
        *reply = describe_maps(*contents, query->limit());
        return grpc::Status::OK;
    }

    grpc::Status QueryRecords(grpc::ServerContext* context, const v1::RecordQuery* query,
                              grpc::ServerWriter<v1::RecordBatch>* writer) override
    {
        const StreamCount count(streams_);
        if (count.number > max_streams)
            return {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many queries at the same time"};
        const auto done = query_records(
            *query, spool_, [&](const v1::RecordBatch& batch) { return writer->Write(batch); },
            [&] { return stopping_ || context->IsCancelled(); });
        return done ? grpc::Status::OK : to_status(done.error());
    }

private:
    struct StreamCount {
        explicit StreamCount(std::atomic<int>& total_streams) : total(total_streams), number(++total) {}
        ~StreamCount() { --total; }
        StreamCount(const StreamCount&) = delete;
        StreamCount& operator=(const StreamCount&) = delete;
        std::atomic<int>& total;
        int number;
    };

    LocalQuestions questions_;
    Spool& spool_;
    std::atomic<bool> stopping_{false};
    std::atomic<int> streams_{0};
};

class RunningServer final : public LocalServer {
public:
    RunningServer(std::unique_ptr<LocalService> service, std::unique_ptr<grpc::Server> server)
        : service_(std::move(service)), server_(std::move(server))
    {}
    ~RunningServer() override
    {
        service_->stop();
        server_->Shutdown(std::chrono::system_clock::now() + 1s);
        server_->Wait();
    }
    RunningServer(const RunningServer&) = delete;
    RunningServer& operator=(const RunningServer&) = delete;

private:
    std::unique_ptr<LocalService> service_;
    std::unique_ptr<grpc::Server> server_;
};

// gRPC would take the path from a live server without asking.
Status clear_path(const std::string& path)
{
    struct stat found {};
    if (::lstat(path.c_str(), &found) != 0)
        return errno == ENOENT ? Status{} : fail_errno(errno, "stat " + path);
    if (!S_ISSOCK(found.st_mode))
        return fail(ErrorKind::invalid, "{} is there and is no socket", path);
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), std::min(path.size(), sizeof address.sun_path - 1));
    if (probe && ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
        return fail(ErrorKind::refused, "another agent answers on {} (mend: give this one a --socket of its own)",
                    path);
    if (::unlink(path.c_str()) != 0)
        return fail_errno(errno, "remove the stale " + path);
    return {};
}

} // namespace

Result<std::unique_ptr<LocalServer>> serve_local(const std::string& socket, LocalQuestions questions, Spool& spool)
{
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(socket).parent_path(), error);
    if (error)
        return fail(ErrorKind::failed, "create the folder of {}: {}", socket, error.message());
    BULKHEAD_CHECK(clear_path(socket));
    auto service = std::make_unique<LocalService>(std::move(questions), spool);
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + socket,
                             grpc::InsecureServerCredentials()); // the socket's mode is the access control
    builder.RegisterService(service.get());
    builder.SetResourceQuota(grpc::ResourceQuota("local").SetMaxThreads(max_threads));
    const mode_t before =
        ::umask(0177); // bind(2) makes the socket; there must be no moment in which others may connect
    auto server = builder.BuildAndStart();
    ::umask(before);
    if (!server || ::access(socket.c_str(), F_OK) != 0)
        return fail(ErrorKind::failed, "cannot listen on {}", socket);
    return std::make_unique<RunningServer>(std::move(service), std::move(server));
}

} // namespace bulkhead::agent
