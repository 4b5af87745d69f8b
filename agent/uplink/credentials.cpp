// SPDX-License-Identifier: Apache-2.0
#include "agent/uplink/credentials.h"

#include "agent/state/atomic_file.h"
#include "agent/state/authority.h"
#include "agent/uplink/uplink.h"
#include "common/tls/tls.h"

namespace bulkhead::agent {
namespace {

constexpr const char* certificate_begins = "-----BEGIN CERTIFICATE-----";

Result<Credentials> assemble(std::string key_pem, std::string certificate_pem, std::string ca_pem)
{
    BULKHEAD_TRY(const auto facts, tls::inspect_certificate(certificate_pem));
    if (facts.common_name.empty())
        return fail(ErrorKind::invalid, "the agent's certificate names nobody");
    return Credentials{std::move(key_pem), std::move(certificate_pem), std::move(ca_pem),
                       facts.common_name,  facts.not_before,           facts.not_after};
}

} // namespace

Result<std::optional<Credentials>> load_credentials(const std::string& state_dir)
{
    BULKHEAD_TRY(const auto agent, read_file_if_there(state_dir + "/agent.pem"));
    BULKHEAD_TRY(const auto ca, read_file_if_there(state_dir + "/ca.pem"));
    if (!agent || !ca)
        return std::nullopt;
    const auto split = agent->find(certificate_begins);
    if (split == std::string::npos)
        return fail(ErrorKind::invalid, "{}/agent.pem holds no certificate (mend: enrol again, with a new token)",
                    state_dir);
    auto credentials = assemble(agent->substr(0, split), agent->substr(split), *ca);
    if (!credentials)
        return tl::unexpected(std::move(credentials).error().within(state_dir + "/agent.pem"));
    return std::move(*credentials);
}

Result<Credentials> save_credentials(const std::string& state_dir, const std::string& key_pem,
                                     const std::string& certificate_pem, const std::string& ca_pem)
{
    BULKHEAD_TRY(auto credentials, assemble(key_pem, certificate_pem, ca_pem));
    BULKHEAD_CHECK(save_authority(state_dir, ca_pem));
    BULKHEAD_CHECK(write_file_atomically(state_dir + "/agent.pem", key_pem + certificate_pem, 0600));
    return credentials;
}

std::optional<std::string> enrolled_agent_id(const std::string& state_dir)
{
    const auto credentials = load_credentials(state_dir);
    if (!credentials || !*credentials)
        return std::nullopt;
    return (*credentials)->agent_id;
}

} // namespace bulkhead::agent
