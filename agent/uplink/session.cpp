// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink/session.h"

#include "controller.grpc.pb.h"

#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr auto report_every = 10s;

using Stream = grpc::ClientReaderWriter<v1::AgentMessage, v1::ControllerMessage>;

// gRPC allows one write at a time; results and reports come from two threads.
class Sender {
public:
    explicit Sender(Stream& stream) : stream_(stream) {}
    bool send(const v1::AgentMessage& message)
    {
        const std::lock_guard lock(mutex_);
        return stream_.Write(message);
    }

private:
    Stream& stream_;
    std::mutex mutex_;
};

} // namespace

grpc::Status Session::run(const std::shared_ptr<grpc::Channel>& channel, const std::function<void()>& on_open)
{
    grpc::ClientContext context;
    const Cancellation::Scope scope(cancellation_, context);
    const auto stub = v1::Agents::NewStub(channel);
    const auto stream = stub->Session(&context);
    Sender sender(*stream);
    v1::AgentMessage hello;
    *hello.mutable_hello() = host_.hello();
    if (sender.send(hello)) {
        std::atomic<bool> over{false};
        std::jthread reporter([&] {
            while (!over && !cancellation_.cancelled()) {
                cancellation_.wait(report_every, [&] { return over || report_.exchange(false); });
                if (over || cancellation_.cancelled())
                    return;
                v1::AgentMessage message;
                *message.mutable_status() = host_.status();
                sender.send(message);
            }
        });
        on_open();
        for (v1::ControllerMessage message; stream->Read(&message);) {
            if (message.has_quarantine())
                host_.on_quarantine(message.quarantine());
            if (!message.has_update() && !message.has_confirm())
                continue;
            auto result =
                message.has_update() ? host_.on_update(message.update()) : host_.on_confirm(message.confirm());
            if (!result) {
                context.TryCancel();
                break;
            }
            v1::AgentMessage answer;
            *answer.mutable_result() = std::move(*result);
            sender.send(answer); // false: the call is over, and the next Read() says so
        }
        over = true;
        cancellation_.notify();
    }
    return stream->Finish();
}

} // namespace bulkhead::agent
