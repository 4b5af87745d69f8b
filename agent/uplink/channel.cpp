// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink/channel.h"

#include "common/tls/tls.h"

#include <algorithm>
#include <random>

namespace bulkhead::agent {
namespace {

constexpr int keepalive_ms = 20'000, keepalive_timeout_ms = 10'000;
constexpr int max_message_bytes = 256 << 20; // a snapshot of some hundred thousand addresses

} // namespace

std::shared_ptr<grpc::Channel> open_channel(const std::string& host_port, const std::string& ca_pem,
                                            const Credentials* credentials)
{
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = ca_pem;
    if (credentials != nullptr) {
        ssl.pem_private_key = credentials->key_pem;
        ssl.pem_cert_chain = credentials->certificate_pem;
    }
    grpc::ChannelArguments arguments;
    arguments.SetSslTargetNameOverride(tls::controller_name);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_timeout_ms);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 5000);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0); // an environment variable must not redirect policy
    arguments.SetMaxReceiveMessageSize(max_message_bytes);
    return grpc::CreateCustomChannel(host_port, grpc::SslCredentials(ssl), arguments);
}

Error to_error(const grpc::Status& status, const std::string& what)
{
    ErrorKind kind = ErrorKind::failed;
    switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::CANCELLED: kind = ErrorKind::unreachable; break;
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::FAILED_PRECONDITION: kind = ErrorKind::refused; break;
    default: break;
    }
    return {kind, what + ": " + status.error_message(), {}};
}

void Cancellation::cancel()
{
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    for (auto* const context : contexts_)
        context->TryCancel();
    changed_.notify_all();
}

bool Cancellation::cancelled() const
{
    const std::lock_guard lock(mutex_);
    return cancelled_;
}

bool Cancellation::sleep(std::chrono::milliseconds time)
{
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, time, [&] { return cancelled_; });
}

bool Cancellation::wait(std::chrono::milliseconds time, const std::function<bool()>& ready)
{
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [&] { return cancelled_ || ready(); });
    return !cancelled_ && ready();
}

void Cancellation::notify()
{
    const std::lock_guard lock(mutex_);
    changed_.notify_all();
}

Cancellation::Scope::Scope(Cancellation& owner, grpc::ClientContext& context) : owner_(owner), context_(context)
{
    const std::lock_guard lock(owner_.mutex_);
    owner_.contexts_.insert(&context_);
    if (owner_.cancelled_)
        context_.TryCancel();
}

Cancellation::Scope::~Scope()
{
    const std::lock_guard lock(owner_.mutex_);
    owner_.contexts_.erase(&context_);
}

std::chrono::milliseconds Backoff::next()
{
    thread_local std::minstd_rand random{std::random_device{}()};
    const auto wait = std::uniform_int_distribution<std::int64_t>(ceiling_.count() / 2, ceiling_.count())(random);
    ceiling_ = std::min(ceiling_ * 2, last);
    return std::chrono::milliseconds(wait);
}

} // namespace bulkhead::agent
