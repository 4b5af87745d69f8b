// SPDX-License-Identifier: Apache-2.0
#include "controller/daemon/controller.h"

#include "common/tls/tls.h"
#include "controller/api/services.h"
#include "controller/enrol/credentials.h"
#include "controller/store/audit.h"
#include "controller/store/sqlite.h"

#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <unistd.h>

#include <array>

namespace bulkhead::controller {
namespace {

constexpr int max_message_bytes = 20 << 20; // a policy file may have 16 MiB
constexpr int max_handler_threads = 256;    // of calls that are no agents' streams
constexpr unsigned certificate_poll_seconds = 1;
constexpr std::chrono::seconds shutdown_grace{2};

std::string own_hostname()
{
    std::array<char, 256> name{};
    return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "";
}

bool usable_in_certificate(const std::string& name)
{
    return !name.empty() &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") ==
               std::string::npos;
}

std::shared_ptr<grpc::ServerCredentials> server_credentials(const Credentials& credentials)
{
    // Read from the files, and read again when they change: a renewed certificate needs no restart.
    auto provider = std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
        credentials.key_file(), credentials.certificate_file(), credentials.authority_file(), certificate_poll_seconds);
    grpc::experimental::TlsServerCredentialsOptions options(provider);
    options.watch_root_certs();
    options.watch_identity_key_cert_pairs();
    // Enrolment has none yet; the other handlers ask for it themselves.
    options.set_cert_request_type(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
    return grpc::experimental::TlsServerCredentials(options);
}

// A peer that vanished without a word is noticed within 15 seconds.
void set_keepalive(grpc::ServerBuilder& builder)
{
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 4'000);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    // Two controllers on one port would each get a part of the agents.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

} // namespace

struct Controller::Parts {
    const Clock& clock;
    ControllerConfig config;
    std::optional<StateDir> state;
    std::optional<Credentials> credentials;
    Stores stores;
    std::unique_ptr<Inventory> inventory;
    std::unique_ptr<PolicyBook> book;
    std::unique_ptr<Distributor> distributor;
    std::unique_ptr<Enroller> enroller;
    RecordFeed feed;
    std::unique_ptr<IngestWriter> writer;
    std::array<std::unique_ptr<grpc::Service>, 3> services;
    std::unique_ptr<grpc::Server> server;
    int port = 0;
    bool made_admin = false;

    Parts(const ControllerConfig& given, const Clock& given_clock) : clock(given_clock), config(given) {}
    ~Parts();

    Status open_state();
    Status load();
    Status serve();
    Status provide_admin();
    [[nodiscard]] std::string address() const;
};

Controller::Parts::~Parts()
{
    // Streams first: they are told why, and the server then has nothing left to wait for.
    if (distributor)
        distributor->stop();
    if (server)
        server->Shutdown(std::chrono::system_clock::now() + shutdown_grace);
    if (writer)
        writer->stop();
    server.reset();
}

Status Controller::Parts::open_state()
{
    BULKHEAD_TRY(auto opened, StateDir::open(config.state_dir));
    state.emplace(std::move(opened));
    std::vector<std::string> host_names, ip_names;
    if (const auto host = own_hostname(); usable_in_certificate(host))
        host_names.push_back(host);
    const auto listen = parse_listen_address(config.grpc_listen);
    if (!listen)
        return fail(ErrorKind::invalid, "'{}' is no ADDRESS:PORT", config.grpc_listen);
    if (const auto ip = IpAddress::parse(listen->host); ip && !ip->is_unspecified())
        ip_names.push_back(ip->to_string());
    else if (!ip && usable_in_certificate(listen->host) && host_names != std::vector{listen->host})
        host_names.push_back(listen->host);
    BULKHEAD_TRY(auto keys, Credentials::open(*state, clock, host_names, ip_names));
    credentials.emplace(std::move(keys));
    return {};
}

Status Controller::Parts::load()
{
    BULKHEAD_TRY(stores, open_sqlite({database_path(config), 0}));
    BULKHEAD_TRY(inventory, Inventory::load(*stores.control, clock));
    BULKHEAD_TRY(book, PolicyBook::load(*stores.control, *inventory, clock));
    BULKHEAD_TRY(auto signer, tls::Signer::create(credentials->authority().key_pem));
    distributor = std::make_unique<Distributor>(*book, *inventory, *stores.control, clock, std::move(signer));
    enroller = std::make_unique<Enroller>(*stores.control, *inventory, credentials->authority(), clock);
    enroller->on_enrolment([this](const std::vector<std::string>& replaced) {
        distributor->drop(replaced);
        distributor->inventory_changed();
    });
    writer = std::make_unique<IngestWriter>(*stores.records, feed);
    return {};
}

Status Controller::Parts::serve()
{
    const ApiParts parts{*stores.control, *stores.records, *inventory, *book, *distributor,
                         *enroller,       *writer,         feed,       clock};
    services = {make_enrolment_service(parts), make_agents_service(parts), make_admin_service(parts)};
    grpc::ServerBuilder builder;
    for (const auto& service : services)
        builder.RegisterService(service.get());
    grpc::ResourceQuota quota("controller");
    quota.SetMaxThreads(max_handler_threads);
    builder.SetResourceQuota(quota);
    builder.SetMaxReceiveMessageSize(max_message_bytes);
    set_keepalive(builder);
    builder.AddListeningPort(config.grpc_listen, server_credentials(*credentials), &port);
    distributor->start();
    writer->start();
    server = builder.BuildAndStart();
    if (!server || port == 0)
        return tl::unexpected<Error>(Error{ErrorKind::failed, fmt::format("cannot listen on {}", config.grpc_listen),
                                           "is the port taken, or the address not this host's?"});
    return {};
}

std::string Controller::Parts::address() const
{
    const auto listen = parse_listen_address(config.grpc_listen);
    auto host = listen ? listen->host : "127.0.0.1";
    if (host == "0.0.0.0")
        host = "127.0.0.1";
    else if (host == "::")
        host = "::1";
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

Status Controller::Parts::provide_admin()
{
    BULKHEAD_TRY(made_admin, credentials->provide_admin(address()));
    if (!made_admin)
        return {};
    return stores.control->append_audit(
        make_audit(clock, {controller_agent_id, "admin.certificate", "admin", "written to admin.yaml"}));
}

Controller::Controller(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Controller::~Controller() = default;

Result<std::unique_ptr<Controller>> Controller::start(const ControllerConfig& config, const Clock& clock)
{
    auto parts = std::make_unique<Parts>(config, clock);
    BULKHEAD_CHECK(parts->open_state());
    BULKHEAD_CHECK(parts->load());
    BULKHEAD_CHECK(parts->serve());
    BULKHEAD_CHECK(parts->provide_admin());
    return std::unique_ptr<Controller>(new Controller(std::move(parts)));
}

int Controller::port() const
{
    return parts_->port;
}

std::string Controller::address() const
{
    return parts_->address();
}

std::string Controller::admin_file() const
{
    return parts_->state->path("admin.yaml");
}

bool Controller::made_admin() const
{
    return parts_->made_admin;
}

void Controller::look_after_certificate()
{
    const auto renewed = parts_->credentials->renew_if_due();
    if (!renewed)
        log_error("the controller's certificate is not renewed: {}", renewed.error().message);
    else if (*renewed)
        log_info("the controller's certificate is renewed");
}

} // namespace bulkhead::controller
