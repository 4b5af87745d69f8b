// SPDX-License-Identifier: Apache-2.0
#include "controller/enrol/enroller.h"

#include "common/core/log.h"
#include "common/tls/tls.h"
#include "controller/inventory/label_rules.h"
#include "controller/store/audit.h"

#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>

namespace bulkhead::controller {
namespace {

using std::chrono::system_clock;
constexpr std::chrono::hours agent_lifetime{24 * 30};
constexpr std::uint64_t default_token_seconds = 3600;
constexpr std::uint64_t max_token_seconds = 30ULL * 24 * 3600;
constexpr std::uint32_t max_token_uses = 100'000;
constexpr std::size_t secret_bytes = 32;
constexpr std::size_t max_csr_bytes = 16 * 1024;

Result<std::string> random_bytes(std::size_t count)
{
    std::string bytes(count, '\0');
    if (RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(count)) != 1)
        return fail(ErrorKind::failed, "the random number generator gives nothing");
    return bytes;
}

std::string to_hex(std::string_view bytes)
{
    std::string hex;
    for (const char byte : bytes)
        hex += fmt::format("{:02x}", static_cast<unsigned char>(byte));
    return hex;
}

std::string hash_of(const std::string& secret)
{
    std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
    SHA256(reinterpret_cast<const unsigned char*>(secret.data()), secret.size(), digest.data());
    return to_hex({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

system_clock::time_point now_of(const Clock& clock)
{
    return std::chrono::time_point_cast<system_clock::duration>(clock.wall());
}

std::int64_t to_micros(system_clock::time_point time)
{
    return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

policy::Labels usable_labels(const v1::EnrolRequest& request)
{
    policy::Labels labels;
    for (const auto& [key, value] : request.labels())
        if (labels.size() < max_labels && valid_label(key, value))
            labels[key] = value;
    return labels;
}

std::string to_text(const policy::Labels& labels)
{
    std::vector<std::string> parts;
    for (const auto& [key, value] : labels)
        parts.push_back(key + "=" + value);
    return fmt::format("{}", fmt::join(parts, ","));
}

} // namespace

Result<v1::CreateTokenReply> Enroller::create_token(const v1::CreateTokenRequest& request, const std::string& actor)
{
    NewToken token;
    const auto seconds = request.ttl_seconds() == 0 ? default_token_seconds : request.ttl_seconds();
    if (seconds > max_token_seconds)
        return fail(ErrorKind::usage, "a token lives at most {} days", max_token_seconds / 86400);
    token.uses = std::max(request.uses(), 1U);
    if (token.uses > max_token_uses)
        return fail(ErrorKind::usage, "a token has at most {} uses", max_token_uses);
    token.labels = policy::Labels(request.labels().begin(), request.labels().end());
    BULKHEAD_CHECK(check_labels(token.labels));
    token.expires_us = unix_micros(clock_) + static_cast<std::int64_t>(seconds) * 1'000'000;
    // As text: EnrolRequest carries it in a protobuf string, which must be UTF-8.
    BULKHEAD_TRY(const auto random, random_bytes(secret_bytes));
    const auto secret = to_hex(random);
    token.secret_hash = hash_of(secret);
    BULKHEAD_TRY(auto fingerprint, tls::certificate_fingerprint(authority_.certificate_pem));
    const auto message = fmt::format("{} use(s), for {} s, labels {}", token.uses, seconds,
                                     token.labels.empty() ? "none" : to_text(token.labels));
    BULKHEAD_CHECK(
        store_.add_token(token, make_audit(clock_, {actor, "token.create", token.secret_hash.substr(0, 8), message})));
    v1::CreateTokenReply reply;
    reply.set_token(tls::encode_join_token({secret, std::move(fingerprint)}));
    reply.set_expires_us(token.expires_us);
    return reply;
}

Result<v1::EnrolReply> Enroller::certify(const std::string& agent_id, const std::string& csr_pem) const
{
    if (csr_pem.size() > max_csr_bytes)
        return fail(ErrorKind::refused, "certificate request: longer than {} bytes", max_csr_bytes);
    v1::EnrolReply reply;
    BULKHEAD_TRY(*reply.mutable_certificate_pem(),
                 tls::sign_request(authority_, csr_pem, {agent_id, "agent", {}, {}, now_of(clock_), agent_lifetime}));
    reply.set_agent_id(agent_id);
    reply.set_ca_pem(authority_.certificate_pem);
    return reply;
}

Result<v1::EnrolReply> Enroller::enrol(const v1::EnrolRequest& request)
{
    const auto now = unix_micros(clock_);
    Enrolment enrolment;
    enrolment.secret_hash = hash_of(request.token_secret());
    // Asked first, so that a stranger cannot make us sign; spent below, in one step with the rest.
    BULKHEAD_TRY(const bool valid, store_.token_valid(enrolment.secret_hash, now));
    if (!valid)
        return tl::unexpected<Error>(Error{ErrorKind::refused, "the join token is unknown, used up or expired",
                                           "make a new one with `bulkheadctl agent token create`"});
    if (!valid_hostname(request.hostname()))
        return fail(ErrorKind::refused, "'{}' is no host name", request.hostname().substr(0, 256));
    // A token says that some host may join, not that it may become one that is there.
    for (const auto& agent : inventory_.agents())
        if (agent.connected && agent.row.workload == request.hostname())
            return tl::unexpected<Error>(
                Error{ErrorKind::refused, fmt::format("a host named {} is enrolled and connected", request.hostname()),
                      "give this host another name (--hostname), or stop the agent that it replaces"});
    BULKHEAD_TRY(const auto random, random_bytes(8));
    auto& agent = enrolment.agent;
    agent.id = "agent-" + to_hex(random);
    BULKHEAD_TRY(auto reply, certify(agent.id, request.csr_pem()));
    BULKHEAD_TRY(const auto facts, tls::inspect_certificate(reply.certificate_pem()));
    agent.workload = request.hostname();
    agent.enrolled_us = now;
    agent.last_seen_us = now;
    agent.certificate_expires_us = to_micros(facts.not_after);
    enrolment.proposed = usable_labels(request);
    const auto message = fmt::format("as {}, by token {}", agent.id, enrolment.secret_hash.substr(0, 8));
    BULKHEAD_TRY(
        const auto outcome,
        store_.enrol(enrolment, now, make_audit(clock_, {agent.workload, "agent.enrol", agent.workload, message})));
    inventory_.enrolled(agent, enrolment.proposed, outcome);
    log_info("{} enrolled as {}", agent.workload, agent.id);
    if (listener_)
        listener_(outcome.replaced);
    return reply;
}

Result<v1::EnrolReply> Enroller::renew(const std::string& agent_id, const v1::RenewRequest& request)
{
    const auto workload = inventory_.workload_of(agent_id);
    if (!workload)
        return fail(ErrorKind::refused, "{} is not enrolled here any more", agent_id);
    BULKHEAD_TRY(auto reply, certify(agent_id, request.csr_pem()));
    BULKHEAD_TRY(const auto facts, tls::inspect_certificate(reply.certificate_pem()));
    const auto expires = to_micros(facts.not_after);
    BULKHEAD_CHECK(store_.renew_certificate(
        agent_id, expires, make_audit(clock_, {*workload, "agent.renew", *workload, "as " + agent_id})));
    inventory_.renewed(agent_id, expires);
    return reply;
}

} // namespace bulkhead::controller
