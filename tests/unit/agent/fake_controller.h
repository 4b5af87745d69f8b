// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/tls/authority.h"
#include "common/tls/tls.h"
#include "controller.grpc.pb.h"

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace bulkhead::test {

// A controller in this process: real TLS, a script instead of a store.
class FakeController final : public v1::Enrolment::Service, public v1::Agents::Service {
public:
    FakeController()
    {
        const auto now = std::chrono::system_clock::now();
        authority_ = *tls::make_authority(now, std::chrono::hours(24));
        start("127.0.0.1:0");
    }
    ~FakeController() override { stop(); }

    std::string secret = "the-secret";
    std::chrono::system_clock::time_point grant_time = std::chrono::system_clock::now();
    std::chrono::seconds lifetime{3600};
    std::string ca_of_renewals;            // what a renewal says of it
    std::vector<v1::PolicyUpdate> updates; // sent after each Hello
    std::uint64_t fail_ingest_after = 0;   // batches; 0: never

    [[nodiscard]] std::string ca() const { return authority_.certificate_pem; }
    [[nodiscard]] std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
    [[nodiscard]] std::string token() const
    {
        return tls::encode_join_token({secret, *tls::certificate_fingerprint(authority_.certificate_pem)});
    }
    void stop()
    {
        stopping_ = true;
        if (server_)
            server_->Shutdown(std::chrono::system_clock::now());
        server_.reset();
    }
    void start_again()
    {
        stopping_ = false;
        start(address());
    }

    // Waits for what the agent does; false after ten seconds.
    template <typename Ready>
    bool wait(Ready ready)
    {
        std::unique_lock lock(mutex);
        return changed.wait_for(lock, std::chrono::seconds(10), ready);
    }

    std::mutex mutex; // guards all below
    std::condition_variable changed;
    std::vector<v1::EnrolRequest> enrolments;
    std::vector<v1::Hello> hellos;
    std::vector<v1::PolicyResult> results;
    std::vector<v1::HostStatus> statuses;
    std::vector<std::uint64_t> records; // numbers as they came, repeated ones too
    std::set<std::string> record_agents;
    int renewals = 0;
    std::uint64_t stored = 0;

private:
    void start(const std::string& listen)
    {
        const auto own = *tls::issue(authority_, {"controller",
                                                  "controller",
                                                  {tls::controller_name},
                                                  {},
                                                  std::chrono::system_clock::now(),
                                                  std::chrono::hours(1)});
        grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
        ssl.pem_root_certs = authority_.certificate_pem;
        ssl.pem_key_cert_pairs = {{own.key_pem, own.certificate_pem + authority_.certificate_pem}};
        grpc::ServerBuilder builder;
        builder.AddListeningPort(listen, grpc::SslServerCredentials(ssl), &port_);
        builder.RegisterService(static_cast<v1::Enrolment::Service*>(this));
        builder.RegisterService(static_cast<v1::Agents::Service*>(this));
        server_ = builder.BuildAndStart();
    }

    template <typename Change>
    void note(Change change)
    {
        const std::lock_guard lock(mutex);
        change();
        changed.notify_all();
    }

    std::string certificate(const std::string& csr)
    {
        return *tls::sign_request(authority_, csr, {"agent-1", "agent", {}, {}, grant_time, lifetime});
    }

    grpc::Status Enrol(grpc::ServerContext*, const v1::EnrolRequest* request, v1::EnrolReply* reply) override
    {
        note([&] { enrolments.push_back(*request); });
        if (request->token_secret() != secret)
            return {grpc::StatusCode::PERMISSION_DENIED, "the token is used up"};
        reply->set_agent_id("agent-1");
        reply->set_certificate_pem(certificate(request->csr_pem()));
        reply->set_ca_pem(authority_.certificate_pem);
        return grpc::Status::OK;
    }

    grpc::Status Renew(grpc::ServerContext*, const v1::RenewRequest* request, v1::EnrolReply* reply) override
    {
        grant_time = std::chrono::system_clock::now();
        lifetime = std::chrono::hours(1);
        reply->set_certificate_pem(certificate(request->csr_pem()));
        reply->set_ca_pem(ca_of_renewals);
        note([&] { ++renewals; });
        return grpc::Status::OK;
    }

    grpc::Status Session(grpc::ServerContext* context,
                         grpc::ServerReaderWriter<v1::ControllerMessage, v1::AgentMessage>* stream) override
    {
        v1::AgentMessage message;
        while (stream->Read(&message) && !context->IsCancelled()) {
            if (message.has_hello()) {
                note([&] { hellos.push_back(message.hello()); });
                for (const auto& update : updates) {
                    v1::ControllerMessage out;
                    *out.mutable_update() = update;
                    stream->Write(out);
                }
            }
            if (message.has_result())
                note([&] { results.push_back(message.result()); });
            if (message.has_status())
                note([&] { statuses.push_back(message.status()); });
        }
        return grpc::Status::OK;
    }

    grpc::Status Ingest(grpc::ServerContext*, grpc::ServerReaderWriter<v1::IngestAck, v1::RecordBatch>* stream) override
    {
        v1::RecordBatch batch;
        for (std::uint64_t batches = 1; stream->Read(&batch); ++batches) {
            v1::IngestAck ack;
            note([&] {
                for (const auto& record : batch.records()) {
                    records.push_back(record.seq());
                    record_agents.insert(record.agent_id());
                }
            });
            if (fail_ingest_after != 0 && batches > fail_ingest_after) {
                fail_ingest_after = 0;
                return {grpc::StatusCode::UNAVAILABLE, "the store is full"};
            }
            note([&] { stored = std::max(stored, records.back()); });
            ack.set_seq(stored);
            stream->Write(ack);
        }
        return grpc::Status::OK;
    }

    tls::KeyAndCertificate authority_;
    int port_ = 0;
    std::atomic<bool> stopping_{false};
    std::unique_ptr<grpc::Server> server_;
};

} // namespace bulkhead::test
