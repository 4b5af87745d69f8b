// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink/uplink.h"

#include "agent/uplink/enrolment.h"
#include "agent/uplink/ingest.h"
#include "agent/uplink/session.h"
#include "common/core/clock.h"
#include "common/core/log.h"
#include "common/tls/tls.h"

#include <atomic>
#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr auto connect_patience = 5s;
constexpr auto connect_slice = 100ms; // WaitForConnected cannot be cancelled
constexpr auto renewal_check = 60s;
constexpr auto lasting = 5s; // a session that lived that long was a real one: the next wait is short again

// Says the same trouble once until it changes or ends.
class Complaint {
public:
    void say(const std::string& text)
    {
        if (text != last_)
            log_warning("{}", text);
        last_ = text;
    }
    void clear() { last_.clear(); }

private:
    std::string last_;
};

class RunningUplink final : public Uplink {
public:
    RunningUplink(UplinkOptions options, std::optional<Credentials> credentials, UplinkHost& host, Spool& spool)
        : options_(std::move(options)), credentials_(std::move(credentials)), host_(host), spool_(spool),
          thread_([this] { run(); })
    {}
    ~RunningUplink() override
    {
        stop_.cancel();
        {
            const std::lock_guard lock(mutex_);
            if (connection_ != nullptr)
                connection_->cancel();
        }
        thread_.join();
    }
    RunningUplink(const RunningUplink&) = delete;
    RunningUplink& operator=(const RunningUplink&) = delete;

    void report_soon() override
    {
        const std::lock_guard lock(mutex_);
        if (session_ != nullptr)
            session_->report_soon();
    }
    [[nodiscard]] bool connected() const override { return connected_; }

private:
    void run()
    {
        if (!credentials_ && !enrol_until_done())
            return;
        host_.on_identity(credentials_->agent_id, credentials_->ca_pem, false);
        while (!stop_.cancelled()) {
            const auto begun = steady_clock::now();
            connect_and_serve();
            if (steady_clock::now() - begun >= lasting)
                backoff_.reset();
            if (!stop_.sleep(backoff_.next()))
                return;
        }
    }

    bool enrol_until_done()
    {
        for (;;) {
            auto enrolled = enrol(options_, stop_);
            if (enrolled) {
                log_info("enrolled at {} as {}", options_.controller, enrolled->agent_id);
                credentials_ = std::move(*enrolled);
                host_.on_identity(credentials_->agent_id, credentials_->ca_pem, true);
                backoff_.reset();
                return true;
            }
            if (stop_.cancelled())
                return false;
            const Error& error = enrolled.error();
            if (error.kind == ErrorKind::refused || error.kind == ErrorKind::usage) {
                host_.on_enrolment_refused(error);
                return false;
            }
            complaint_.say(fmt::format("cannot enrol at {} yet: {}", options_.controller, error.message));
            if (!stop_.sleep(backoff_.next()))
                return false;
        }
    }

    bool wait_connected(grpc::Channel& channel)
    {
        const auto deadline = steady_clock::now() + connect_patience;
        while (!stop_.cancelled() && steady_clock::now() < deadline)
            if (channel.WaitForConnected(system_clock::now() + connect_slice))
                return true;
        return false;
    }

    void connect_and_serve()
    {
        if (system_clock::now() >= credentials_->not_after) {
            complaint_.say(
                fmt::format("this agent's certificate ended at {} (mend: start it with --join and a new token)",
                            format_rfc3339(credentials_->not_after)));
            return;
        }
        const auto channel = open_channel(options_.controller, credentials_->ca_pem, &*credentials_);
        if (!wait_connected(*channel)) {
            if (!stop_.cancelled())
                complaint_.say(fmt::format("cannot reach the controller {}; trying on", options_.controller));
            return;
        }
        serve(channel);
    }

    void serve(const std::shared_ptr<grpc::Channel>& channel)
    {
        Cancellation connection;
        Session session(host_, connection);
        set_current(&connection, &session);
        if (stop_.cancelled())
            connection.cancel();
        grpc::Status ended;
        {
            const std::jthread ingest([&] { keep_delivering(channel, connection); });
            const std::jthread renewal([&] { watch_certificate(channel, connection); });
            ended = session.run(channel, [this] {
                complaint_.clear();
                log_info("connected to the controller {}", options_.controller);
                set_connected(true);
            });
            connection.cancel();
        }
        set_current(nullptr, nullptr);
        set_connected(false);
        if (renewed_) {
            credentials_ = std::move(renewed_);
            renewed_.reset();
        } else if (!stop_.cancelled()) {
            complaint_.say(fmt::format("the controller {} has ended the session: {}", options_.controller,
                                       ended.error_message().empty() ? "closed" : ended.error_message()));
        }
    }

    // Delivery has its own troubles (a full store, say) and must not take the policy stream down with it.
    void keep_delivering(const std::shared_ptr<grpc::Channel>& channel, Cancellation& connection)
    {
        Backoff backoff;
        Complaint complaint;
        while (!connection.cancelled()) {
            const auto begun = steady_clock::now();
            const auto ended = deliver_records(channel, spool_, credentials_->agent_id, connection);
            if (connection.cancelled())
                return;
            complaint.say(fmt::format("records are not taken: {}", ended.error_message()));
            if (steady_clock::now() - begun >= lasting)
                backoff.reset();
            connection.sleep(backoff.next());
        }
    }

    void watch_certificate(const std::shared_ptr<grpc::Channel>& channel, Cancellation& connection)
    {
        do {
            if (system_clock::now() < credentials_->renew_at())
                continue;
            auto fresh = renew(options_, *credentials_, channel, connection);
            if (fresh) {
                log_info("the certificate is renewed until {}", format_rfc3339(fresh->not_after));
                renewed_ = std::move(*fresh); // read after this thread has been joined
                connection.cancel();
                return;
            }
            log_warning("{}", fresh.error().message);
        } while (connection.sleep(renewal_check));
    }

    void set_current(Cancellation* connection, Session* session)
    {
        const std::lock_guard lock(mutex_);
        connection_ = connection;
        session_ = session;
    }

    void set_connected(bool now)
    {
        if (connected_.exchange(now) != now)
            host_.on_connected(now);
    }

    const UplinkOptions options_;
    std::optional<Credentials> credentials_, renewed_;
    UplinkHost& host_;
    Spool& spool_;
    Cancellation stop_;
    Backoff backoff_;
    Complaint complaint_;
    std::atomic<bool> connected_{false};
    std::mutex mutex_; // guards the next two
    Cancellation* connection_ = nullptr;
    Session* session_ = nullptr;
    std::thread thread_; // last: it uses all of the above
};

// None: enrol. With a certificate that is too old to renew, or one that is damaged, a token is what it was given for.
Result<std::optional<Credentials>> credentials_to_use(const UplinkOptions& options)
{
    auto credentials = load_credentials(options.state_dir);
    if (options.join_token.empty())
        return credentials;
    if (!credentials || (*credentials && system_clock::now() >= (*credentials)->not_after))
        return std::nullopt;
    return credentials;
}

// A token is left over from the enrolment, as a rule. One of another authority is how an admin says that the controller
// is another, or was set up anew; which of the two is newer, nobody knows here.
void tell_unused_token(const std::string& join_token, const Credentials& held)
{
    const auto token = tls::decode_join_token(join_token);
    const auto ours = tls::certificate_fingerprint(held.ca_pem);
    if (token && ours && token->ca_fingerprint != *ours)
        log_warning("already enrolled as {}, at another controller than the join token is of: it is not used (mend: "
                    "bulkhead-setup join HOST:PORT --again enrols anew)",
                    held.agent_id);
    else
        log_info("already enrolled as {}: the join token is not used", held.agent_id);
}

} // namespace

Status check_uplink(const UplinkOptions& options)
{
    BULKHEAD_TRY(const auto credentials, credentials_to_use(options));
    if (credentials)
        return {};
    if (options.join_token.empty())
        return fail(ErrorKind::invalid,
                    "this host is not enrolled at a controller (mend: make a token with 'bulkheadctl "
                    "agent token create' and start with --join TOKEN or --join-file FILE)");
    if (const auto token = tls::decode_join_token(options.join_token); !token)
        return fail(ErrorKind::invalid, "the join token cannot be used: {}", token.error().message);
    return {};
}

Result<std::unique_ptr<Uplink>> start_uplink(const UplinkOptions& options, UplinkHost& host, Spool& spool)
{
    BULKHEAD_CHECK(check_uplink(options));
    BULKHEAD_TRY(auto credentials, credentials_to_use(options));
    if (const auto held = load_credentials(options.state_dir); !held)
        log_warning("this host is enrolled anew: {}", held.error().message);
    if (credentials && !options.join_token.empty())
        tell_unused_token(options.join_token, *credentials);
    return std::make_unique<RunningUplink>(options, std::move(credentials), host, spool);
}

} // namespace bulkhead::agent
