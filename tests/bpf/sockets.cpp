// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/time.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace bulkhead::test {

namespace {

[[noreturn]] void throw_errno(const std::string& what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

// The sockets interface takes every address type through this one cast.
const sockaddr* generic(const sockaddr_storage& storage)
{
    return reinterpret_cast<const sockaddr*>(&storage);
}
sockaddr* generic(sockaddr_storage& storage)
{
    return reinterpret_cast<sockaddr*>(&storage);
}

} // namespace

Address::Address(std::string_view text, std::uint16_t port)
{
    const std::string copy(text);
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    if (::inet_pton(AF_INET, copy.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        std::memcpy(&storage, &v4, sizeof(v4));
        size = sizeof(v4);
    } else if (::inet_pton(AF_INET6, copy.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        std::memcpy(&storage, &v6, sizeof(v6));
        size = sizeof(v6);
    } else {
        throw std::invalid_argument(copy);
    }
}

const sockaddr* Address::get() const
{
    return generic(storage);
}

UniqueFd make_socket(int family, int type)
{
    UniqueFd fd(::socket(family, type | SOCK_CLOEXEC, 0));
    if (!fd)
        throw_errno("socket");
    const timeval limit{3, 0};
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0 ||
        ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0)
        throw_errno("setsockopt");
    return fd;
}

void set_option(const UniqueFd& socket, int level, int option, int value)
{
    if (::setsockopt(socket.get(), level, option, &value, sizeof(value)) != 0)
        throw_errno("setsockopt");
}

UniqueFd bound(int type, const Address& address)
{
    UniqueFd fd = make_socket(address.family(), type);
    if (::bind(fd.get(), address.get(), address.size) != 0)
        throw_errno("bind");
    return fd;
}

UniqueFd listening(const Address& address)
{
    UniqueFd fd = bound(SOCK_STREAM, address);
    if (::listen(fd.get(), 64) != 0)
        throw_errno("listen");
    return fd;
}

int connect_error(const UniqueFd& socket, const Address& to)
{
    return ::connect(socket.get(), to.get(), to.size) == 0 ? 0 : errno;
}

int send_to_error(const UniqueFd& socket, const Address& to, std::string_view text)
{
    return ::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL, to.get(), to.size) >= 0 ? 0 : errno;
}

int send_error(const UniqueFd& socket, std::string_view text)
{
    return ::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL) >= 0 ? 0 : errno;
}

int tcp_error(const Address& to)
{
    return connect_error(make_socket(to.family(), SOCK_STREAM), to);
}

int udp_connect_error(const Address& to)
{
    return connect_error(make_socket(to.family(), SOCK_DGRAM), to);
}

Datagram receive(const UniqueFd& socket, std::chrono::milliseconds within)
{
    pollfd waiting{socket.get(), POLLIN, 0};
    Datagram datagram;
    if (::poll(&waiting, 1, static_cast<int>(within.count())) <= 0)
        return datagram;
    char buffer[65536];
    datagram.from_size = sizeof(datagram.from);
    const ssize_t got =
        ::recvfrom(socket.get(), buffer, sizeof(buffer), 0, generic(datagram.from), &datagram.from_size);
    if (got > 0)
        datagram.text.assign(buffer, static_cast<std::size_t>(got));
    return datagram;
}

int reply_error(const UniqueFd& socket, const Datagram& to, std::string_view text)
{
    return ::sendto(socket.get(), text.data(), text.size(), MSG_NOSIGNAL, generic(to.from), to.from_size) >= 0 ? 0
                                                                                                               : errno;
}

UniqueFd accepted(const UniqueFd& listener)
{
    UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd)
        throw_errno("accept");
    return fd;
}

std::uint16_t port_of(const UniqueFd& socket)
{
    sockaddr_storage storage{};
    socklen_t size = sizeof(storage);
    if (::getsockname(socket.get(), generic(storage), &size) != 0)
        throw_errno("getsockname");
    sockaddr_in v4{}; // the port is at the same place in both families
    std::memcpy(&v4, &storage, sizeof(v4));
    return ntohs(v4.sin_port);
}

std::uint64_t cookie_of(const UniqueFd& socket)
{
    std::uint64_t cookie = 0;
    socklen_t size = sizeof(cookie);
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0)
        throw_errno("SO_COOKIE");
    return cookie;
}

} // namespace bulkhead::test
