// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/command_line.h"
#include "cli/output/listing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <vector>

namespace bulkhead::cli {

// A controller that answers what the test gave it and keeps what it was asked. A status in `refuse` is its answer to
// everything.
class FakeAdmin final : public v1::Admin::Service {
public:
    explicit FakeAdmin(std::mutex& turn) : turn_(turn) {}

    grpc::Status refuse;
    v1::ApplyPolicyReply apply_reply;
    v1::ApplyPolicyRequest applied;
    v1::GetPolicyReply policy;
    v1::GetPolicyRequest policy_asked;
    v1::WorkloadList workloads;
    v1::LabelWorkloadRequest labelled;
    v1::SegmentList segments;
    v1::AgentList agents;
    v1::CreateTokenRequest token_asked;
    v1::CreateTokenReply token;
    v1::ControllerStatus status;
    v1::RecordQuery query;
    std::vector<v1::RecordBatch> batches;
    v1::ConfirmPolicyRequest confirmed;
    v1::RollbackPolicyRequest rolled_back;
    v1::PolicyList policies;
    v1::SetQuarantineRequest quarantine_asked;
    v1::WorkloadInfo quarantined;
    int calls = 0;

    grpc::Status ApplyPolicy(grpc::ServerContext*, const v1::ApplyPolicyRequest* request,
                             v1::ApplyPolicyReply* reply) override
    {
        return keep(applied, *request, apply_reply, reply);
    }
    grpc::Status ConfirmPolicy(grpc::ServerContext*, const v1::ConfirmPolicyRequest* request,
                               v1::ApplyPolicyReply* reply) override
    {
        return keep(confirmed, *request, apply_reply, reply);
    }
    grpc::Status RollbackPolicy(grpc::ServerContext*, const v1::RollbackPolicyRequest* request,
                                v1::ApplyPolicyReply* reply) override
    {
        return keep(rolled_back, *request, apply_reply, reply);
    }
    grpc::Status ListPolicies(grpc::ServerContext*, const v1::Empty*, v1::PolicyList* reply) override
    {
        return answer(policies, reply);
    }
    grpc::Status SetQuarantine(grpc::ServerContext*, const v1::SetQuarantineRequest* request,
                               v1::WorkloadInfo* reply) override
    {
        return keep(quarantine_asked, *request, quarantined, reply);
    }
    grpc::Status GetPolicy(grpc::ServerContext*, const v1::GetPolicyRequest* request,
                           v1::GetPolicyReply* reply) override
    {
        return keep(policy_asked, *request, policy, reply);
    }
    grpc::Status ListWorkloads(grpc::ServerContext*, const v1::Empty*, v1::WorkloadList* reply) override
    {
        return answer(workloads, reply);
    }
    grpc::Status LabelWorkload(grpc::ServerContext*, const v1::LabelWorkloadRequest* request,
                               v1::WorkloadInfo* reply) override
    {
        return keep(labelled, *request, workloads.workloads().empty() ? v1::WorkloadInfo() : workloads.workloads(0),
                    reply);
    }
    grpc::Status ListSegments(grpc::ServerContext*, const v1::Empty*, v1::SegmentList* reply) override
    {
        return answer(segments, reply);
    }
    grpc::Status ListAgents(grpc::ServerContext*, const v1::Empty*, v1::AgentList* reply) override
    {
        return answer(agents, reply);
    }
    grpc::Status CreateToken(grpc::ServerContext*, const v1::CreateTokenRequest* request,
                             v1::CreateTokenReply* reply) override
    {
        return keep(token_asked, *request, token, reply);
    }
    grpc::Status QueryRecords(grpc::ServerContext*, const v1::RecordQuery* asked,
                              grpc::ServerWriter<v1::RecordBatch>* writer) override
    {
        const std::lock_guard in_turn(turn_);
        ++calls;
        query = *asked;
        for (const auto& batch : batches)
            if (!writer->Write(batch))
                break;
        return refuse;
    }
    grpc::Status GetStatus(grpc::ServerContext*, const v1::Empty*, v1::ControllerStatus* reply) override
    {
        return answer(status, reply);
    }

private:
    template <typename Request, typename Message>
    grpc::Status keep(Request& asked, const Request& request, const Message& prepared, Message* reply)
    {
        const std::lock_guard in_turn(turn_);
        asked = request;
        ++calls;
        *reply = prepared;
        return refuse;
    }
    template <typename Message>
    grpc::Status answer(const Message& prepared, Message* reply)
    {
        const std::lock_guard in_turn(turn_);
        ++calls;
        *reply = prepared;
        return refuse;
    }

    std::mutex& turn_;
};

class FakeAgent final : public v1::Local::Service {
public:
    explicit FakeAgent(std::mutex& turn) : turn_(turn) {}

    v1::LocalStatus status;
    v1::LocalPolicy policy;
    std::vector<v1::RecordBatch> batches;
    v1::LocalQuarantine quarantine_asked;
    grpc::Status refuse_quarantine;

    grpc::Status SetQuarantine(grpc::ServerContext*, const v1::LocalQuarantine* wish, v1::LocalStatus* reply) override
    {
        const std::lock_guard in_turn(turn_);
        quarantine_asked = *wish;
        *reply = status;
        return refuse_quarantine;
    }
    grpc::Status GetStatus(grpc::ServerContext*, const v1::Empty*, v1::LocalStatus* reply) override
    {
        const std::lock_guard in_turn(turn_);
        *reply = status;
        return grpc::Status::OK;
    }
    grpc::Status QueryRecords(grpc::ServerContext*, const v1::RecordQuery*,
                              grpc::ServerWriter<v1::RecordBatch>* writer) override
    {
        const std::lock_guard in_turn(turn_);
        for (const auto& batch : batches)
            writer->Write(batch);
        return grpc::Status::OK;
    }
    grpc::Status GetPolicy(grpc::ServerContext*, const v1::Empty*, v1::LocalPolicy* reply) override
    {
        const std::lock_guard in_turn(turn_);
        *reply = policy;
        return grpc::Status::OK;
    }
    grpc::Status GetMaps(grpc::ServerContext*, const v1::MapsQuery* query, v1::LocalMaps* reply) override
    {
        const std::lock_guard in_turn(turn_);
        maps_asked = *query;
        *reply = maps;
        return grpc::Status::OK;
    }

    v1::LocalMaps maps;
    v1::MapsQuery maps_asked;

private:
    std::mutex& turn_;
};

// Runs whole command lines against the fakes, over an in-process channel.
class CliSession : public testing::Test {
protected:
    struct Outcome {
        int code = 0;
        std::string out, err;
        [[nodiscard]] Json json() const { return Json::parse(out, nullptr, false); }
    };

    Outcome run(std::vector<std::string> arguments, const std::string& input = {}, bool terminal = false)
    {
        arguments.insert(arguments.begin(), "bulkheadctl");
        std::vector<const char*> argv;
        for (const auto& argument : arguments)
            argv.push_back(argument.c_str());
        std::istringstream in(input);
        std::ostringstream out;
        std::ostringstream err;
        const auto connect = [this](PeerOptions options) {
            asked = std::move(options);
            return std::make_unique<InProcess>(*this);
        };
        std::unique_lock before_it(turn_);
        before_it.unlock();
        const int code =
            run_command_line(static_cast<int>(argv.size()), argv.data(), {in, out, err, terminal, connect});
        const std::lock_guard after_it(turn_);
        return {code, out.str(), err.str()};
    }

    std::string write(const std::string& name, const std::string& text)
    {
        const auto path = folder_ / name;
        std::ofstream(path, std::ios::binary) << text;
        return path.string();
    }

    struct KeyPair {
        std::string certificate, key;
    };
    KeyPair self_signed(int days = 2)
    {
        const auto key = write("key.pem", "");
        const auto certificate = write("certificate.pem", "");
        const auto command =
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=test -days " +
            std::to_string(days) + " -keyout " + key + " -out " + certificate + " 2>/dev/null";
        EXPECT_EQ(std::system(command.c_str()), 0) << command;
        return {read(certificate), read(key)};
    }
    static std::string read(const std::string& path)
    {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    // A literal block below a key of a context.
    static std::string block(const std::string& name, const std::string& pem)
    {
        std::istringstream lines(pem);
        std::string text = "  " + name + ": |\n";
        for (std::string line; std::getline(lines, line);)
            text += "    " + line + "\n";
        return text;
    }

    CliSession()
    {
        std::string path = (std::filesystem::temp_directory_path() / "bulkhead-cli-XXXXXX").string();
        folder_ = ::mkdtemp(path.data()) != nullptr ? path : "";
        grpc::ServerBuilder builder;
        builder.RegisterService(&admin);
        builder.RegisterService(&agent);
        server_ = builder.BuildAndStart();
    }
    ~CliSession() override
    {
        server_->Shutdown();
        std::error_code ignored;
        std::filesystem::remove_all(folder_, ignored);
    }

private:
    // The fakes are called one after the other, by threads of gRPC's. What orders them is seen by ThreadSanitizer only
    // where it is in code that was built for it.
    std::mutex turn_;

protected:
    FakeAdmin admin{turn_};
    FakeAgent agent{turn_};
    PeerOptions asked;
    std::string agent_socket; // that a command found out
    bool controller_known = true;
    std::optional<Error> unreachable;

private:
    class InProcess final : public Peers {
    public:
        explicit InProcess(CliSession& session)
            : session_(session), admin_(v1::Admin::NewStub(session.server_->InProcessChannel({}))),
              agent_(v1::Local::NewStub(session.server_->InProcessChannel({})))
        {}
        Result<v1::Admin::StubInterface*> admin() override
        {
            if (session_.unreachable)
                return tl::unexpected(*session_.unreachable);
            return admin_.get();
        }
        Result<v1::Local::StubInterface*> agent() override
        {
            if (session_.unreachable)
                return tl::unexpected(*session_.unreachable);
            return agent_.get();
        }
        [[nodiscard]] bool knows_controller() const override { return session_.controller_known; }
        void agent_listens_at(const std::string& socket) override { session_.agent_socket = socket; }
        [[nodiscard]] std::string admin_name() const override { return "controller ctl:7443"; }
        [[nodiscard]] std::string agent_name() const override { return "agent at sock"; }

    private:
        CliSession& session_;
        std::unique_ptr<v1::Admin::Stub> admin_;
        std::unique_ptr<v1::Local::Stub> agent_;
    };

    std::filesystem::path folder_;
    std::unique_ptr<grpc::Server> server_;
};

} // namespace bulkhead::cli
