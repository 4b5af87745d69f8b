// SPDX-License-Identifier: Apache-2.0
#include "controller/enrol/credentials.h"

#include "common/core/log.h"
#include "common/tls/tls.h"

#include <yaml-cpp/yaml.h>

namespace bulkhead::controller {
namespace {

using std::chrono::system_clock;
constexpr std::chrono::hours authority_lifetime{24 * 3650};
constexpr std::chrono::hours controller_lifetime{24 * 365};
constexpr std::chrono::hours admin_lifetime{24 * 365};
constexpr std::chrono::hours admin_margin{24 * 30};
constexpr const char* first_admin = "admin";

std::string indent(const std::string& pem)
{
    std::string text;
    std::size_t begin = 0;
    while (begin < pem.size()) {
        const auto end = std::min(pem.find('\n', begin), pem.size());
        text += "      " + pem.substr(begin, end - begin) + "\n";
        begin = end + 1;
    }
    return text;
}

std::string admin_context(const std::string& address, const std::string& ca, const tls::KeyAndCertificate& admin)
{
    return fmt::format("current: default\n"
                       "contexts:\n"
                       "  - name: default\n"
                       "    controller: \"{}\"\n"
                       "    ca: |\n{}"
                       "    certificate: |\n{}"
                       "    key: |\n{}",
                       address, indent(ca), indent(admin.certificate_pem), indent(admin.key_pem));
}

} // namespace

system_clock::time_point Credentials::now() const
{
    return std::chrono::time_point_cast<system_clock::duration>(clock_->wall());
}

Result<Credentials> Credentials::open(const StateDir& state, const Clock& clock, std::vector<std::string> host_names,
                                      std::vector<std::string> ip_names)
{
    Credentials credentials(state, clock);
    credentials.host_names_ = std::move(host_names);
    credentials.ip_names_ = std::move(ip_names);
    BULKHEAD_CHECK(credentials.provide_authority());
    BULKHEAD_TRY([[maybe_unused]] const bool renewed, credentials.renew_if_due());
    return credentials;
}

Status Credentials::provide_authority()
{
    BULKHEAD_TRY(const auto file, state_->read("ca.pem"));
    if (file) {
        authority_ = {*file, *file}; // a reader of PEM takes the block that it wants and passes over the other
        if (!tls::key_matches(authority_))
            return tl::unexpected<Error>(
                Error{ErrorKind::failed, fmt::format("{} holds no key with its certificate", state_->path("ca.pem")),
                      "restore it from a backup"});
        // Only the certificate goes out to others.
        const auto begin = file->find("-----BEGIN CERTIFICATE-----");
        authority_.certificate_pem = file->substr(begin);
    } else {
        BULKHEAD_TRY(const auto key, state_->read("controller.key"));
        if (key)
            return tl::unexpected<Error>(
                Error{ErrorKind::failed,
                      fmt::format("{} is gone, and enrolled agents trust no other authority", state_->path("ca.pem")),
                      "restore it from a backup, or remove the whole state folder and enrol every agent again"});
        BULKHEAD_TRY(authority_, tls::make_authority(now(), authority_lifetime));
        BULKHEAD_CHECK(state_->write("ca.pem", authority_.key_pem + authority_.certificate_pem, 0600));
    }
    BULKHEAD_TRY(const auto published, state_->read("ca.crt"));
    if (published != authority_.certificate_pem)
        BULKHEAD_CHECK(state_->write("ca.crt", authority_.certificate_pem, 0644));
    return {};
}

Result<std::optional<tls::KeyAndCertificate>> Credentials::read_controller() const
{
    BULKHEAD_TRY(auto key, state_->read("controller.key"));
    BULKHEAD_TRY(auto certificate, state_->read("controller.crt"));
    if (!key || !certificate)
        return std::nullopt;
    tls::KeyAndCertificate pair{std::move(*key), std::move(*certificate)};
    if (!tls::key_matches(pair) || !tls::issued_by(pair.certificate_pem, authority_.certificate_pem))
        return std::nullopt;
    return pair;
}

Result<bool> Credentials::renew_if_due()
{
    BULKHEAD_TRY(const auto held, read_controller());
    if (held) {
        BULKHEAD_TRY(const auto facts, tls::inspect_certificate(held->certificate_pem));
        if (facts.not_after - now() > (facts.not_after - facts.not_before) / 3)
            return false;
    }
    std::vector<std::string> names{tls::controller_name};
    names.insert(names.end(), host_names_.begin(), host_names_.end());
    const tls::CertificateGrant grant{tls::controller_name, "controller", names, ip_names_, now(), controller_lifetime};
    tls::KeyAndCertificate issued;
    if (held) { // the key stays, so that only one file changes
        issued.key_pem = held->key_pem;
        BULKHEAD_TRY(issued.certificate_pem, tls::issue_for_key(authority_, held->key_pem, grant));
    } else {
        BULKHEAD_TRY(issued, tls::issue(authority_, grant));
        BULKHEAD_CHECK(state_->write("controller.key", issued.key_pem, 0600));
    }
    // Agents that join look for the authority in the chain; see tls::fetch_ca().
    BULKHEAD_CHECK(state_->write("controller.crt", issued.certificate_pem + authority_.certificate_pem, 0644));
    return true;
}

// The certificate's end, when the file is one that this authority's admin can use.
Result<std::optional<system_clock::time_point>> Credentials::admin_expiry() const
{
    BULKHEAD_TRY(const auto file, state_->read("admin.yaml"));
    if (!file)
        return std::nullopt;
    try {
        const auto context = YAML::Load(*file)["contexts"][0];
        const tls::KeyAndCertificate admin{context["key"].as<std::string>(), context["certificate"].as<std::string>()};
        const auto facts = tls::inspect_certificate(admin.certificate_pem);
        if (facts && tls::key_matches(admin) && tls::issued_by(admin.certificate_pem, authority_.certificate_pem))
            return facts->not_after;
    } catch (const YAML::Exception& error) {
        log_warning("{} is no context file ({}); it is written anew", state_->path("admin.yaml"), error.what());
    }
    return std::nullopt;
}

Result<bool> Credentials::provide_admin(const std::string& controller_address)
{
    BULKHEAD_TRY(const auto expiry, admin_expiry());
    if (expiry && *expiry - now() > admin_margin)
        return false;
    BULKHEAD_TRY(const auto admin, tls::issue(authority_, {first_admin, "admin", {}, {}, now(), admin_lifetime}));
    BULKHEAD_CHECK(
        state_->write("admin.yaml", admin_context(controller_address, authority_.certificate_pem, admin), 0600));
    return true;
}

} // namespace bulkhead::controller
