// SPDX-License-Identifier: Apache-2.0
#include "controller/distribute/session_stream.h"

namespace bulkhead::controller {
namespace {

class SessionStream;

// Outlives the stream: whoever holds it may go on talking to a call that has ended.
class Link final : public AgentLink {
public:
    Link(std::string agent_id, SessionStream& stream) : agent_id_(std::move(agent_id)), stream_(&stream) {}

    [[nodiscard]] const std::string& agent_id() const override { return agent_id_; }
    void send(std::shared_ptr<const v1::ControllerMessage> message) override;
    void send_order(std::shared_ptr<const v1::ControllerMessage> order) override;
    void read_next() override;
    void close(const std::string& reason) override;

    void written(bool ok);
    void ended();

private:
    void start_write();

    const std::string agent_id_;
    std::mutex mutex_;
    SessionStream* stream_; // null: Finish() was called, nothing may be started any more
    std::shared_ptr<const v1::ControllerMessage> writing_, waiting_, waiting_order_;
};

class SessionStream final : public SessionReactor {
public:
    SessionStream(std::string agent_id, Distributor& distributor)
        : distributor_(distributor), link_(std::make_shared<Link>(std::move(agent_id), *this))
    {
        StartRead(&incoming_);
    }

    void OnReadDone(bool ok) override
    {
        if (ok)
            distributor_.on_message(link_, std::move(incoming_));
        else
            link_->ended();
    }
    void OnWriteDone(bool ok) override { link_->written(ok); }
    void OnDone() override
    {
        distributor_.on_gone(link_);
        delete this;
    }
    void read()
    {
        incoming_.Clear();
        StartRead(&incoming_);
    }

private:
    Distributor& distributor_;
    std::shared_ptr<Link> link_;
    v1::AgentMessage incoming_;
};

void Link::send(std::shared_ptr<const v1::ControllerMessage> message)
{
    const std::lock_guard lock(mutex_);
    if (stream_ == nullptr)
        return;
    waiting_ = std::move(message);
    if (!writing_)
        start_write();
}

void Link::send_order(std::shared_ptr<const v1::ControllerMessage> order)
{
    const std::lock_guard lock(mutex_);
    if (stream_ == nullptr)
        return;
    waiting_order_ = std::move(order);
    if (!writing_)
        start_write();
}

void Link::start_write()
{
    writing_ = std::exchange(waiting_order_ ? waiting_order_ : waiting_, nullptr);
    stream_->StartWrite(writing_.get());
}

void Link::written(bool ok)
{
    const std::lock_guard lock(mutex_);
    writing_ = nullptr;
    if (ok && stream_ != nullptr && (waiting_ || waiting_order_))
        start_write();
}

void Link::read_next()
{
    const std::lock_guard lock(mutex_);
    if (stream_ != nullptr)
        stream_->read();
}

void Link::close(const std::string& reason)
{
    const std::lock_guard lock(mutex_);
    if (auto* stream = std::exchange(stream_, nullptr))
        stream->Finish(grpc::Status(grpc::StatusCode::ABORTED, reason));
}

void Link::ended()
{
    const std::lock_guard lock(mutex_);
    if (auto* stream = std::exchange(stream_, nullptr))
        stream->Finish(grpc::Status::OK);
}

class RefusedStream final : public SessionReactor {
public:
    explicit RefusedStream(const grpc::Status& status) { Finish(status); }
    void OnDone() override { delete this; }
};

} // namespace

SessionReactor* open_session(std::string agent_id, Distributor& distributor)
{
    return std::make_unique<SessionStream>(std::move(agent_id), distributor).release();
}

SessionReactor* refuse_session(const grpc::Status& status)
{
    return std::make_unique<RefusedStream>(status).release();
}

} // namespace bulkhead::controller
