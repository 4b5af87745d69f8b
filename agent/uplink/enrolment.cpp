// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink/enrolment.h"

#include "agent/state/atomic_file.h"
#include "common/tls/tls.h"
#include "controller.grpc.pb.h"

#include <unistd.h>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

constexpr auto ca_timeout = 1500ms; // cannot be cancelled, so it bounds how long a stop takes
constexpr auto call_timeout = 10s;

} // namespace

Result<Credentials> enrol(const UplinkOptions& options, Cancellation& cancellation)
{
    BULKHEAD_TRY(const auto token, tls::decode_join_token(options.join_token));
    BULKHEAD_TRY(const auto ca, tls::fetch_ca(options.controller, token.ca_fingerprint, ca_timeout));
    BULKHEAD_TRY(const auto key, tls::make_key_and_request(options.hostname));

    // The token may be good for one use only: find out before that this folder can be written to. Not with ca.pem, by
    // which a saved policy is verified: this controller may refuse.
    const auto trial = options.state_dir + "/ca.next.pem";
    BULKHEAD_CHECK(write_file_atomically(trial, ca, 0600));
    ::unlink(trial.c_str());

    v1::EnrolRequest request;
    request.set_token_secret(token.secret);
    request.set_csr_pem(key.csr_pem);
    request.set_hostname(options.hostname);
    request.mutable_labels()->insert(options.labels.begin(), options.labels.end());
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + call_timeout);
    const Cancellation::Scope scope(cancellation, context);
    v1::EnrolReply reply;
    const auto stub = v1::Enrolment::NewStub(open_channel(options.controller, ca, nullptr));
    if (const auto status = stub->Enrol(&context, request, &reply); !status.ok())
        return tl::unexpected(to_error(status, "enrolment"));
    // The CA whose fingerprint the token carries, whatever the reply says.
    return save_credentials(options.state_dir, key.key_pem, reply.certificate_pem(), ca);
}

Result<Credentials> renew(const UplinkOptions& options, const Credentials& current,
                          const std::shared_ptr<grpc::Channel>& channel, Cancellation& cancellation)
{
    BULKHEAD_TRY(const auto key, tls::make_key_and_request(current.agent_id));
    v1::RenewRequest request;
    request.set_csr_pem(key.csr_pem);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + call_timeout);
    const Cancellation::Scope scope(cancellation, context);
    v1::EnrolReply reply;
    if (const auto status = v1::Agents::NewStub(channel)->Renew(&context, request, &reply); !status.ok())
        return tl::unexpected(to_error(status, "renewal of the certificate"));
    // Another authority comes with a token only: whoever has no more than the controller's TLS key must not choose by
    // whom policies are signed.
    return save_credentials(options.state_dir, key.key_pem, reply.certificate_pem(), current.ca_pem);
}

} // namespace bulkhead::agent
