// SPDX-License-Identifier: Apache-2.0
#include "common/core/unique_fd.h"
#include "common/tls/authority.h"
#include "common/tls/tls.h"
#include "controller.grpc.pb.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

namespace bulkhead::tls {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::system_clock;
using Context = std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)>;
using Connection = std::unique_ptr<SSL, decltype(&SSL_free)>;

sockaddr_in loopback(int port)
{
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// The version that a client limited to `version` gets from the server, and "" when the handshake fails. Every cipher
// suite that OpenSSL has is offered, weak ones too.
std::string negotiate(int port, int version)
{
    Context context(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
    SSL_CTX_set_min_proto_version(context.get(), version);
    SSL_CTX_set_max_proto_version(context.get(), version);
    EXPECT_EQ(SSL_CTX_set_cipher_list(context.get(), "ALL:COMPLEMENTOFALL:@SECLEVEL=0"), 1);
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = loopback(port);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    Connection ssl(SSL_new(context.get()), SSL_free);
    static constexpr unsigned char alpn[] = {2, 'h', '2'};
    SSL_set_alpn_protos(ssl.get(), alpn, sizeof alpn);
    SSL_set_fd(ssl.get(), fd.get());
    const int done = SSL_connect(ssl.get());
    ERR_clear_error();
    return done == 1 ? SSL_get_version(ssl.get()) : "";
}

// A server of OpenSSL alone with the controller's certificate, limited to one version; counts finished handshakes.
class RawServer {
public:
    RawServer(const KeyAndCertificate& identity, int version)
    {
        SSL_CTX_set_min_proto_version(context_.get(), version);
        SSL_CTX_set_max_proto_version(context_.get(), version);
        SSL_CTX_set_cipher_list(context_.get(), "ALL:COMPLEMENTOFALL:@SECLEVEL=0");
        std::unique_ptr<BIO, decltype(&BIO_free_all)> certificate(BIO_new_mem_buf(identity.certificate_pem.data(), -1),
                                                                  BIO_free_all);
        std::unique_ptr<X509, decltype(&X509_free)> x509(
            PEM_read_bio_X509(certificate.get(), nullptr, nullptr, nullptr), X509_free);
        SSL_CTX_use_certificate(context_.get(), x509.get());
        std::unique_ptr<BIO, decltype(&BIO_free_all)> key(BIO_new_mem_buf(identity.key_pem.data(), -1), BIO_free_all);
        std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> pkey(
            PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr), EVP_PKEY_free);
        SSL_CTX_use_PrivateKey(context_.get(), pkey.get());
        SSL_CTX_set_alpn_select_cb(
            context_.get(),
            [](SSL*, const unsigned char** out, unsigned char* size, const unsigned char*, unsigned int, void*) {
                static constexpr unsigned char h2[] = {'h', '2'};
                *out = h2;
                *size = sizeof h2;
                return SSL_TLSEXT_ERR_OK;
            },
            nullptr);
        auto address = loopback(0);
        socklen_t size = sizeof address;
        EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
        EXPECT_EQ(::listen(listener_.get(), 16), 0);
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
        port = ntohs(address.sin_port);
        thread_ = std::thread([this] { serve(); });
    }
    ~RawServer()
    {
        ::shutdown(listener_.get(), SHUT_RDWR); // wakes accept()
        thread_.join();
    }
    int port = 0;
    std::atomic<int> attempts{0}, finished{0};

private:
    void serve()
    {
        for (;;) {
            const UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            if (!fd)
                return;
            Connection ssl(SSL_new(context_.get()), SSL_free);
            SSL_set_fd(ssl.get(), fd.get());
            ++attempts;
            if (SSL_accept(ssl.get()) == 1)
                ++finished;
            ERR_clear_error();
        }
    }

    Context context_{SSL_CTX_new(TLS_server_method()), SSL_CTX_free};
    UniqueFd listener_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    std::thread thread_;
};

class Tls13Test : public testing::Test {
protected:
    static void SetUpTestSuite() { require_tls13(); }

    void SetUp() override
    {
        const auto now = system_clock::now();
        auto made = make_authority(now, hours(24));
        ASSERT_TRUE(made);
        authority = std::move(*made);
        auto issued = issue(authority, {"controller", "controller", {controller_name}, {}, now, hours(1)});
        ASSERT_TRUE(issued);
        identity = std::move(*issued);
    }

    void start_server()
    {
        grpc::SslServerCredentialsOptions options(GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY);
        options.pem_root_certs = authority.certificate_pem;
        options.pem_key_cert_pairs.push_back({identity.key_pem, identity.certificate_pem + authority.certificate_pem});
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(options), &port);
        builder.RegisterService(&service);
        server = builder.BuildAndStart();
        ASSERT_NE(server, nullptr);
    }

    bool channel_connects(int to) const
    {
        grpc::SslCredentialsOptions options;
        options.pem_root_certs = authority.certificate_pem;
        grpc::ChannelArguments arguments;
        arguments.SetSslTargetNameOverride(controller_name);
        const auto channel =
            grpc::CreateCustomChannel(fmt::format("127.0.0.1:{}", to), grpc::SslCredentials(options), arguments);
        return channel->WaitForConnected(system_clock::now() + milliseconds(700));
    }

    KeyAndCertificate authority, identity;
    v1::Enrolment::Service service;
    int port = 0;
    std::unique_ptr<grpc::Server> server;
};

TEST_F(Tls13Test, AServerOfGrpcNegotiatesTls13AndNothingOlder)
{
    start_server();
    EXPECT_EQ(negotiate(port, TLS1_3_VERSION), "TLSv1.3");
    EXPECT_EQ(negotiate(port, TLS1_2_VERSION), "");
    EXPECT_EQ(negotiate(port, TLS1_1_VERSION), "");
    EXPECT_TRUE(channel_connects(port));
}

TEST_F(Tls13Test, AClientOfGrpcRefusesAServerOfTls12)
{
    RawServer modern(identity, TLS1_3_VERSION);
    channel_connects(modern.port); // it speaks no HTTP/2, so only the handshake succeeds
    EXPECT_GT(modern.finished.load(), 0);

    RawServer old(identity, TLS1_2_VERSION);
    EXPECT_FALSE(channel_connects(old.port));
    EXPECT_GT(old.attempts.load(), 0);
    EXPECT_EQ(old.finished.load(), 0);
}

TEST_F(Tls13Test, FetchCaReturnsTheAuthorityThatTheTokenNames)
{
    start_server();
    const auto fingerprint = certificate_fingerprint(authority.certificate_pem);
    ASSERT_TRUE(fingerprint);
    for (const auto* host : {"127.0.0.1", "localhost"}) {
        const auto fetched = fetch_ca(fmt::format("{}:{}", host, port), *fingerprint, milliseconds(3000));
        ASSERT_TRUE(fetched) << fetched.error().message;
        EXPECT_EQ(*fetched, authority.certificate_pem);
    }
}

TEST_F(Tls13Test, FetchCaRefusesAnotherController)
{
    start_server();
    const auto fetched = fetch_ca(fmt::format("127.0.0.1:{}", port), std::string(64, '0'), milliseconds(3000));
    ASSERT_FALSE(fetched);
    EXPECT_EQ(fetched.error().kind, ErrorKind::refused);
    // The leaf's own fingerprint is not an authority's.
    const auto leaf = certificate_fingerprint(identity.certificate_pem);
    EXPECT_FALSE(fetch_ca(fmt::format("127.0.0.1:{}", port), *leaf, milliseconds(3000)));
}

TEST_F(Tls13Test, FetchCaTellsAClosedPortASilentPeerAndNonsenseApart)
{
    const auto fingerprint = std::string(64, '0');
    UniqueFd silent(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    auto address = loopback(0);
    socklen_t size = sizeof address;
    ASSERT_EQ(::bind(silent.get(), reinterpret_cast<const sockaddr*>(&address), size), 0);
    ::getsockname(silent.get(), reinterpret_cast<sockaddr*>(&address), &size);
    const auto peer = fmt::format("127.0.0.1:{}", ntohs(address.sin_port));

    const auto closed = fetch_ca(peer, fingerprint, milliseconds(2000));
    ASSERT_FALSE(closed);
    EXPECT_EQ(closed.error().kind, ErrorKind::unreachable);
    ASSERT_EQ(::listen(silent.get(), 4), 0); // connections are taken by the kernel, and nobody answers
    const auto mute = fetch_ca(peer, fingerprint, milliseconds(200));
    ASSERT_FALSE(mute);
    EXPECT_EQ(mute.error().kind, ErrorKind::unreachable);
    EXPECT_NE(mute.error().message.find("timed out"), std::string::npos) << mute.error().message;

    for (const auto* text : {"", "host", "host:", ":1", "host:0", "host:65536", "host:x", "::1:5", "[::1]5", "[]:5"}) {
        const auto bad = fetch_ca(text, fingerprint, milliseconds(200));
        ASSERT_FALSE(bad) << text;
        EXPECT_EQ(bad.error().kind, ErrorKind::usage) << text;
    }
}

TEST_F(Tls13Test, FetchCaDialsIpv6)
{
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs.push_back({identity.key_pem, identity.certificate_pem + authority.certificate_pem});
    grpc::ServerBuilder builder;
    builder.AddListeningPort("[::1]:0", grpc::SslServerCredentials(options), &port);
    builder.RegisterService(&service);
    server = builder.BuildAndStart();
    if (server == nullptr)
        GTEST_SKIP() << "no IPv6 loopback here";
    const auto fetched = fetch_ca(fmt::format("[::1]:{}", port), *certificate_fingerprint(authority.certificate_pem),
                                  milliseconds(3000));
    EXPECT_TRUE(fetched) << fetched.error().message;
}

} // namespace
} // namespace bulkhead::tls
