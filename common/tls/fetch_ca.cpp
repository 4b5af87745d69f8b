// SPDX-License-Identifier: Apache-2.0
#include "common/core/unique_fd.h"
#include "common/tls/openssl_handles.h"
#include "common/tls/tls.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace bulkhead::tls {
namespace {

using Clock = std::chrono::steady_clock;

struct HostPort {
    std::string host, port;
};

Result<HostPort> split_host_port(const std::string& text)
{
    const auto malformed = [&text] {
        return tl::unexpected<Error>(Error{ErrorKind::usage, fmt::format("'{}' is no HOST:PORT", text),
                                           "write host:7443 or [2001:db8::1]:7443"});
    };
    const auto colon = text.rfind(':');
    if (colon == std::string::npos || colon + 1 == text.size())
        return malformed();
    HostPort result{text.substr(0, colon), text.substr(colon + 1)};
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (result.port.size() > 5 || !std::all_of(result.port.begin(), result.port.end(), is_digit) ||
        std::stoul(result.port) == 0 || std::stoul(result.port) > 65535)
        return malformed();
    if (result.host.starts_with('[') && result.host.ends_with(']') && result.host.size() > 2)
        result.host = result.host.substr(1, result.host.size() - 2);
    else if (result.host.find_first_of(":[]") != std::string::npos)
        return malformed();
    if (result.host.empty())
        return malformed();
    return result;
}

// 0 when `events` came; ETIMEDOUT when the deadline did.
int wait_for(int fd, short events, Clock::time_point deadline)
{
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        if (left <= 0)
            return ETIMEDOUT;
        pollfd entry{fd, events, 0};
        const int ready = ::poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left, 60'000)));
        if (ready > 0)
            return 0;
        if (ready < 0 && errno != EINTR)
            return errno;
    }
}

int try_connect(const addrinfo& address, Clock::time_point deadline, UniqueFd& result)
{
    UniqueFd fd(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address.ai_protocol));
    if (!fd)
        return errno;
    if (::connect(fd.get(), address.ai_addr, address.ai_addrlen) != 0) {
        if (errno != EINPROGRESS)
            return errno;
        if (const int error = wait_for(fd.get(), POLLOUT, deadline); error != 0)
            return error;
        int error = 0;
        socklen_t size = sizeof error;
        if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0)
            return errno;
        if (error != 0)
            return error;
    }
    result = std::move(fd);
    return 0;
}

// Every address of the name gets a fair part of the time, so that a dead IPv6 route does not eat it all. Looking the
// name up has no deadline of its own: resolv.conf(5) bounds it.
Result<UniqueFd> connect_to(const HostPort& peer, Clock::time_point deadline)
{
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV;
    addrinfo* list = nullptr;
    if (const int error = ::getaddrinfo(peer.host.c_str(), peer.port.c_str(), &hints, &list); error != 0)
        return fail(ErrorKind::unreachable, "look up '{}': {}", peer.host, ::gai_strerror(error));
    const std::unique_ptr<addrinfo, OpensslFree<::freeaddrinfo>> owner(list);
    int left = 0;
    for (const auto* address = list; address != nullptr; address = address->ai_next)
        ++left;
    int error = ETIMEDOUT;
    for (const auto* address = list; address != nullptr; address = address->ai_next, --left) {
        UniqueFd fd;
        error = try_connect(*address, Clock::now() + (deadline - Clock::now()) / left, fd);
        if (error == 0)
            return fd;
    }
    return fail(ErrorKind::unreachable, "connect to {} port {}: {}", peer.host, peer.port,
                std::generic_category().message(error));
}

// TLS over memory, bytes carried by hand: OpenSSL's own socket writes would raise SIGPIPE when the peer goes.
class Handshake {
public:
    Handshake(int fd, SSL* ssl, Clock::time_point deadline) : fd_(fd), ssl_(ssl), deadline_(deadline) {}

    Status run()
    {
        for (;;) {
            const int done = SSL_do_handshake(ssl_);
            const int reason = SSL_get_error(ssl_, done);
            BULKHEAD_CHECK(flush());
            if (done == 1)
                return {};
            if (reason != SSL_ERROR_WANT_READ) {
                auto error = fail_openssl("TLS handshake");
                error.value().kind = ErrorKind::unreachable;
                return error;
            }
            BULKHEAD_CHECK(fill());
        }
    }

private:
    Status wait(short events)
    {
        if (const int error = wait_for(fd_, events, deadline_); error != 0)
            return fail(ErrorKind::unreachable, "TLS handshake: {}", std::generic_category().message(error));
        return {};
    }

    Status flush()
    {
        std::array<char, 4096> bytes{};
        for (int size = 0; (size = BIO_read(SSL_get_wbio(ssl_), bytes.data(), bytes.size())) > 0;) {
            for (int sent = 0; sent < size;) {
                const auto count =
                    ::send(fd_, bytes.data() + sent, static_cast<std::size_t>(size - sent), MSG_NOSIGNAL);
                if (count > 0) {
                    sent += static_cast<int>(count);
                } else if (errno == EAGAIN) {
                    BULKHEAD_CHECK(wait(POLLOUT));
                } else if (errno != EINTR) {
                    return fail(ErrorKind::unreachable, "TLS handshake: {}", std::generic_category().message(errno));
                }
            }
        }
        return {};
    }

    Status fill()
    {
        std::array<char, 4096> bytes{};
        for (;;) {
            const auto count = ::recv(fd_, bytes.data(), bytes.size(), 0);
            if (count > 0) {
                BIO_write(SSL_get_rbio(ssl_), bytes.data(), static_cast<int>(count));
                return {};
            }
            if (count == 0)
                return fail(ErrorKind::unreachable, "TLS handshake: the peer closed the connection");
            if (errno == EAGAIN) {
                BULKHEAD_CHECK(wait(POLLIN));
            } else if (errno != EINTR) {
                return fail(ErrorKind::unreachable, "TLS handshake: {}", std::generic_category().message(errno));
            }
        }
    }

    int fd_;
    SSL* ssl_;
    Clock::time_point deadline_;
};

Result<Ssl> make_client()
{
    const SslContext context(SSL_CTX_new(TLS_client_method()));
    if (!context || SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION) != 1)
        return fail_openssl("prepare TLS");
    // Nothing is trusted yet; the fingerprint decides afterwards and nothing secret is sent on this connection.
    SSL_CTX_set_verify(context.get(), SSL_VERIFY_NONE, nullptr);
    Ssl ssl(SSL_new(context.get()));
    BIO* read = BIO_new(BIO_s_mem());
    BIO* write = BIO_new(BIO_s_mem());
    if (!ssl || read == nullptr || write == nullptr) {
        BIO_free(read);
        BIO_free(write);
        return fail_openssl("prepare TLS");
    }
    BIO_set_mem_eof_return(read, -1);
    BIO_set_mem_eof_return(write, -1);
    SSL_set_bio(ssl.get(), read, write);
    static constexpr unsigned char alpn[] = {2, 'h', '2'}; // gRPC's servers hang up on a peer that does not ask for it
    SSL_set_alpn_protos(ssl.get(), alpn, sizeof alpn);
    SSL_set_connect_state(ssl.get());
    return ssl;
}

} // namespace

Result<std::string> fetch_ca(const std::string& host_port, const std::string& expected_fingerprint,
                             std::chrono::milliseconds timeout)
{
    const auto deadline = Clock::now() + timeout;
    BULKHEAD_TRY(const auto peer, split_host_port(host_port));
    BULKHEAD_TRY(const auto fd, connect_to(peer, deadline));
    BULKHEAD_TRY(const auto ssl, make_client());
    if (auto done = Handshake(fd.get(), ssl.get(), deadline).run(); !done)
        return tl::unexpected(std::move(done).error().within(host_port));
    const auto* chain = SSL_get_peer_cert_chain(ssl.get());
    for (int i = 0; chain != nullptr && i < sk_X509_num(chain); ++i) {
        auto* certificate = sk_X509_value(chain, i);
        BULKHEAD_TRY(const auto fingerprint, fingerprint_of(certificate));
        if (fingerprint == expected_fingerprint && X509_check_ca(certificate) == 1)
            return certificate_to_pem(certificate);
    }
    return tl::unexpected<Error>(Error{ErrorKind::refused,
                                       fmt::format("{} is not the controller that made this token", host_port),
                                       "check the address, or make a token on that controller"});
}

} // namespace bulkhead::tls
