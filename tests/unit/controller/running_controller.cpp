// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/controller/running_controller.h"

#include "common/tls/signature.h"
#include "common/wire/state_digest.h"

#include "common/net/ip.h"
#include "common/wire/wire.h"

#include <yaml-cpp/yaml.h>

namespace bulkhead::controller {

RunningController::RunningController(std::chrono::seconds clock_shift)
{
    clock.shift = clock_shift.count();
    tls::require_tls13();
    set_log_level(LogLevel::error);
    config.state_dir = dir.file("state");
    config.grpc_listen = "127.0.0.1:0";
    start();
}

void RunningController::start()
{
    auto started = Controller::start(config, clock);
    ASSERT_TRUE(started) << started.error().message;
    controller_ = std::move(*started);
}

void RunningController::restart()
{
    stop();
    start();
}

std::shared_ptr<grpc::Channel> RunningController::channel(const ClientIdentity& identity) const
{
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ca();
    options.pem_private_key = identity.key_pem;
    options.pem_cert_chain = identity.certificate_pem;
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(tls::controller_name);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1); // each test's controller has other certificates
    return grpc::CreateCustomChannel(fmt::format("127.0.0.1:{}", controller_->port()), grpc::SslCredentials(options),
                                     arguments);
}

std::string RunningController::ca() const
{
    return YAML::LoadFile(config.state_dir + "/admin.yaml")["contexts"][0]["ca"].as<std::string>();
}

ClientIdentity RunningController::admin_identity() const
{
    const auto context = YAML::LoadFile(config.state_dir + "/admin.yaml")["contexts"][0];
    return {context["key"].as<std::string>(), context["certificate"].as<std::string>()};
}

std::string RunningController::token(const v1::CreateTokenRequest& request) const
{
    grpc::ClientContext context;
    set_deadline(context);
    v1::CreateTokenReply reply;
    const auto status = admin()->CreateToken(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    const auto token = tls::decode_join_token(reply.token());
    EXPECT_TRUE(token);
    return token ? token->secret : "";
}

grpc::Status RunningController::try_enrol(const std::string& secret, const std::string& hostname,
                                          const std::map<std::string, std::string>& labels, EnrolledAgent& agent) const
{
    const auto pair = tls::make_key_and_request("host");
    EXPECT_TRUE(pair);
    v1::EnrolRequest request;
    request.set_token_secret(secret);
    request.set_csr_pem(pair->csr_pem);
    request.set_hostname(hostname);
    request.mutable_labels()->insert(labels.begin(), labels.end());
    grpc::ClientContext context;
    set_deadline(context);
    v1::EnrolReply reply;
    const auto status = v1::Enrolment::NewStub(channel({}))->Enrol(&context, request, &reply);
    agent = {reply.agent_id(), hostname, {pair->key_pem, reply.certificate_pem()}};
    return status;
}

EnrolledAgent RunningController::enrol(const std::string& hostname,
                                       const std::map<std::string, std::string>& labels) const
{
    v1::CreateTokenRequest request;
    request.mutable_labels()->insert(labels.begin(), labels.end());
    EnrolledAgent agent;
    const auto status = try_enrol(token(request), hostname, {}, agent);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return agent;
}

v1::ApplyPolicyReply RunningController::apply(const std::string& text, std::uint32_t wait_ms) const
{
    v1::ApplyPolicyRequest request;
    request.set_wait_ms(wait_ms);
    auto& file = *request.add_files();
    file.set_name("shop.yaml");
    file.set_text(text);
    grpc::ClientContext context;
    set_deadline(context);
    v1::ApplyPolicyReply reply;
    const auto status = admin()->ApplyPolicy(&context, request, &reply);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return reply;
}

void set_deadline(grpc::ClientContext& context, int seconds)
{
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(seconds));
}

AgentSession::AgentSession(const RunningController& controller, const EnrolledAgent& agent)
    : stub_(controller.agents(agent)), ca_(controller.ca())
{
    set_deadline(context_, 20);
    stream_ = stub_->Session(&context_);
}

AgentSession::~AgentSession()
{
    if (!finished_) {
        context_.TryCancel();
        static_cast<void>(stream_->Finish());
    }
}

bool AgentSession::hello(const std::vector<std::string>& addresses, std::uint64_t generation,
                         const std::map<std::string, std::string>& labels)
{
    v1::AgentMessage message;
    auto& hello = *message.mutable_hello();
    for (const auto& address : addresses)
        hello.add_addresses(bytes_of(address));
    hello.mutable_labels()->insert(labels.begin(), labels.end());
    hello.set_generation(generation);
    hello.set_agent_version("test");
    return stream_->Write(message);
}

bool AgentSession::hello(const std::vector<std::string>& addresses, const v1::Standing& standing)
{
    v1::AgentMessage message;
    auto& hello = *message.mutable_hello();
    addresses_ = addresses;
    for (const auto& address : addresses)
        hello.add_addresses(bytes_of(address));
    hello.set_generation(standing.generation());
    hello.set_policy_version(standing.policy_version());
    hello.set_agent_version("test");
    *hello.mutable_standing() = standing;
    return stream_->Write(message);
}

bool AgentSession::read(v1::ControllerMessage& message)
{
    if (!stream_->Read(&message))
        return false;
    if (message.has_update())
        expect_signed(message.update());
    return true;
}

// Of a delta to something from before this session only the end is not known.
void AgentSession::expect_signed(const v1::PolicyUpdate& update)
{
    EXPECT_NE(update.signature(), "");
    if (!update.snapshot() && (!state_ || state_->generation != update.base_generation())) {
        state_.reset();
        return;
    }
    auto next = wire::apply_update(state_.value_or(wire::HostState{}), update);
    ASSERT_TRUE(next) << next.error().message;
    const auto verified =
        tls::verify_signature(ca_, wire::policy_signature_context, wire::state_digest(*next), update.signature());
    EXPECT_TRUE(verified) << verified.error().message;
    state_ = std::move(*next);
}

bool AgentSession::answer(const v1::ControllerMessage& message)
{
    v1::AgentMessage answer;
    auto& result = *answer.mutable_result();
    result.set_enforced(true);
    if (message.has_confirm()) {
        result.set_generation(message.confirm().generation());
        result.set_policy_version(message.confirm().policy_version());
    } else {
        result.set_generation(message.update().generation());
        result.set_policy_version(message.update().policy_version());
        result.set_trial_left_ms(message.update().trial_ms());
    }
    return stream_->Write(answer);
}

bool AgentSession::tell(const v1::Standing& standing)
{
    v1::AgentMessage message;
    *message.mutable_status()->mutable_standing() = standing;
    for (const auto& address : addresses_)
        message.mutable_status()->add_addresses(bytes_of(address));
    return stream_->Write(message);
}

bool AgentSession::read(v1::PolicyUpdate& update)
{
    v1::ControllerMessage message;
    if (!read(message) || !message.has_update())
        return false;
    update = message.update();
    return true;
}

bool AgentSession::answer(const v1::PolicyUpdate& update, bool enforced, const std::string& refusal, bool need_snapshot)
{
    v1::AgentMessage message;
    auto& result = *message.mutable_result();
    result.set_generation(update.generation());
    result.set_policy_version(update.policy_version());
    result.set_enforced(enforced);
    result.set_refusal(refusal);
    result.set_need_snapshot(need_snapshot);
    return stream_->Write(message);
}

grpc::Status AgentSession::finish()
{
    finished_ = true;
    return stream_->Finish();
}

std::string bytes_of(const std::string& address)
{
    const auto parsed = IpAddress::parse(address);
    EXPECT_TRUE(parsed) << address;
    return wire::to_wire(*parsed);
}

} // namespace bulkhead::controller
