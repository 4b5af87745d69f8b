// SPDX-License-Identifier: Apache-2.0
#include "cli/peers/peers.h"

#include "cli/peers/context_file.h"
#include "common/tls/tls.h"

#include <filesystem>

namespace bulkhead::cli {
namespace {

constexpr std::chrono::seconds connect_patience{5};

class GrpcPeers final : public Peers {
public:
    explicit GrpcPeers(PeerOptions options) : options_(std::move(options)) {}

    Result<v1::Admin::StubInterface*> admin() override
    {
        if (admin_)
            return admin_.get();
        const auto path = options_.config.empty() ? default_context_path() : options_.config;
        BULKHEAD_TRY(const auto context, read_context(path));
        controller_ = options_.controller.empty() ? context.controller : options_.controller;
        grpc::SslCredentialsOptions tls;
        tls.pem_root_certs = context.ca;
        tls.pem_cert_chain = context.certificate;
        tls.pem_private_key = context.key;
        grpc::ChannelArguments arguments = common_arguments();
        arguments.SetSslTargetNameOverride(tls::controller_name);
        BULKHEAD_TRY(auto channel, connect(controller_, grpc::SslCredentials(tls), arguments, admin_name()));
        admin_ = v1::Admin::NewStub(channel);
        return admin_.get();
    }

    Result<v1::Local::StubInterface*> agent() override
    {
        if (agent_)
            return agent_.get();
        auto connected =
            connect("unix:" + options_.socket, grpc::InsecureChannelCredentials(), common_arguments(), agent_name());
        if (!connected) {
            auto error = std::move(connected).error();
            error.mend = "is bulkheadd running, and are you root? --socket PATH names another socket";
            return tl::unexpected(std::move(error));
        }
        agent_ = v1::Local::NewStub(*connected);
        return agent_.get();
    }

    [[nodiscard]] bool knows_controller() const override
    {
        std::error_code ignored; // a folder that cannot be read is "no context"
        return !options_.config.empty() || std::filesystem::exists(default_context_path(), ignored);
    }
    void agent_listens_at(const std::string& socket) override
    {
        if (!socket.empty() && options_.socket == default_agent_socket)
            options_.socket = socket;
    }
    [[nodiscard]] std::string admin_name() const override { return "controller " + controller_; }
    [[nodiscard]] std::string agent_name() const override { return "agent at " + options_.socket; }

private:
    static grpc::ChannelArguments common_arguments()
    {
        grpc::ChannelArguments arguments;
        arguments.SetMaxReceiveMessageSize(256 << 20);
        arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
        arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
        arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
        return arguments;
    }

    static Result<std::shared_ptr<grpc::Channel>> connect(const std::string& target,
                                                          const std::shared_ptr<grpc::ChannelCredentials>& credentials,
                                                          const grpc::ChannelArguments& arguments,
                                                          const std::string& name)
    {
        auto channel = grpc::CreateCustomChannel(target, credentials, arguments);
        const auto deadline = std::chrono::system_clock::now() + connect_patience;
        // A refused connection goes to TRANSIENT_FAILURE at once; waiting for the whole patience would hide that.
        auto state = channel->GetState(true);
        while (state != GRPC_CHANNEL_READY) {
            if (state == GRPC_CHANNEL_TRANSIENT_FAILURE || !channel->WaitForStateChange(state, deadline))
                return tl::unexpected(
                    Error{ErrorKind::unreachable, fmt::format("cannot reach the {}", name),
                          "is it running, is the address right, and does its certificate come from the context's CA?"});
            state = channel->GetState(true);
        }
        return channel;
    }

    PeerOptions options_;
    std::string controller_;
    std::unique_ptr<v1::Admin::StubInterface> admin_;
    std::unique_ptr<v1::Local::StubInterface> agent_;
};

} // namespace

std::unique_ptr<Peers> make_peers(PeerOptions options)
{
    return std::make_unique<GrpcPeers>(std::move(options));
}

void set_deadline(grpc::ClientContext& call, std::chrono::milliseconds more)
{
    call.set_deadline(std::chrono::system_clock::now() + call_deadline + more);
}

Error explain(const grpc::Status& status, const std::string& peer)
{
    auto kind = ErrorKind::failed;
    std::string mend;
    switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED: kind = ErrorKind::unreachable; break;
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
        kind = ErrorKind::refused;
        mend = "use a context of an admin: --config FILE";
        break;
    case grpc::StatusCode::ABORTED: kind = ErrorKind::refused; break; // what was asked for, not who asked
    case grpc::StatusCode::INVALID_ARGUMENT: kind = ErrorKind::usage; break;
    default: break;
    }
    return Error{kind, fmt::format("{}: {}", peer, status.error_message()), mend};
}

} // namespace bulkhead::cli
