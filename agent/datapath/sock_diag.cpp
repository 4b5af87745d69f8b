// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/sock_diag.h"

#include <arpa/inet.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

namespace bulkhead::agent {

namespace {

constexpr std::uint64_t any_cookie = ~std::uint64_t{0}; // INET_DIAG_NOCOOKIE, twice

struct Request {
    nlmsghdr header{};
    inet_diag_req_v2 body{};
};

bool is_v4(const bh_address& address)
{
    static constexpr std::array<__u8, 12> mark{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::memcmp(address.byte, mark.data(), mark.size()) == 0;
}

// A dual-stack socket that talks IPv4 is found under the IPv4 form of its addresses.
void write_address(bool v4, const bh_address& address, __be32* words)
{
    if (v4)
        std::memcpy(words, address.byte + 12, 4);
    else
        std::memcpy(words, address.byte, 16);
}

void write_cookie(std::uint64_t cookie, inet_diag_sockid& id)
{
    id.idiag_cookie[0] = static_cast<__u32>(cookie);
    id.idiag_cookie[1] = static_cast<__u32>(cookie >> 32);
}

Request make_request(std::uint16_t type, const bh_walked_socket& socket)
{
    Request request;
    const bool v4 = is_v4(socket.remote);
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = type;
    request.header.nlmsg_flags = NLM_F_REQUEST;
    request.body.sdiag_family = v4 ? AF_INET : AF_INET6;
    request.body.sdiag_protocol = socket.protocol;
    request.body.idiag_states = ~0U;
    auto& id = request.body.id;
    id.idiag_sport = htons(socket.local_port);
    id.idiag_dport = htons(socket.remote_port);
    write_address(v4, socket.local, id.idiag_src);
    write_address(v4, socket.remote, id.idiag_dst);
    id.idiag_if = socket.bound_interface; // or the kernel does not find it (inet_bound_dev_eq)
    write_cookie(socket.cookie != 0 ? socket.cookie : any_cookie, id);
    return request;
}

// True when this was the last of a dump's answers.
Result<bool> read_dump(int fd, std::uint32_t sequence, std::span<std::byte> buffer)
{
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0)
        return errno == EINTR ? Result<bool>(false) : fail_errno(errno, "read from sock_diag");
    std::size_t at = 0;
    while (at + sizeof(nlmsghdr) <= static_cast<std::size_t>(got)) {
        nlmsghdr header{};
        std::memcpy(&header, buffer.data() + at, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > static_cast<std::size_t>(got) - at)
            return fail(ErrorKind::failed, "sock_diag answered a message of {} bytes", header.nlmsg_len);
        if (header.nlmsg_seq == sequence && header.nlmsg_type == NLMSG_DONE)
            return true;
        if (header.nlmsg_seq == sequence && header.nlmsg_type == NLMSG_ERROR) {
            nlmsgerr answer{};
            if (header.nlmsg_len >= NLMSG_HDRLEN + sizeof(answer))
                std::memcpy(&answer, buffer.data() + at + NLMSG_HDRLEN, sizeof(answer));
            return fail_errno(-answer.error, "list sockets by sock_diag");
        }
        at += NLMSG_ALIGN(header.nlmsg_len);
    }
    return false;
}

// To a request about one socket.
struct Answer {
    int error = 0;
    std::uint64_t cookie = 0; // of the socket that was asked for
};

Result<Answer> read_answer(int fd, std::uint32_t sequence)
{
    while (true) {
        std::array<std::byte, 4096> buffer{};
        const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno(errno, "read from sock_diag");
        nlmsghdr header{};
        nlmsgerr done{};
        inet_diag_msg socket{};
        const auto size = static_cast<std::size_t>(got);
        if (size < sizeof(header) + sizeof(done))
            return fail(ErrorKind::failed, "sock_diag answered {} bytes", got);
        std::memcpy(&header, buffer.data(), sizeof(header));
        if (header.nlmsg_seq != sequence)
            continue; // of a request that timed out
        if (header.nlmsg_type == NLMSG_ERROR) {
            std::memcpy(&done, buffer.data() + NLMSG_HDRLEN, sizeof(done));
            return Answer{-done.error, 0};
        }
        if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || size < NLMSG_HDRLEN + sizeof(socket))
            return fail(ErrorKind::failed, "sock_diag answered with message type {}", header.nlmsg_type);
        std::memcpy(&socket, buffer.data() + NLMSG_HDRLEN, sizeof(socket));
        const auto& halves = socket.id.idiag_cookie;
        return Answer{0, std::uint64_t{halves[1]} << 32 | halves[0]};
    }
}

} // namespace

Result<SockDiag> SockDiag::open()
{
    UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
    if (!fd)
        return fail_errno(errno, "open sock_diag");
    const timeval patience{2, 0};
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0)
        return fail_errno(errno, "set the time-out of sock_diag");
    return SockDiag(std::move(fd));
}

Status SockDiag::give_cookies()
{
    std::vector<std::byte> buffer(256 * 1024);
    for (const int protocol : {IPPROTO_TCP, IPPROTO_UDP})
        for (const int family : {AF_INET, AF_INET6}) {
            Request request;
            request.header.nlmsg_len = sizeof(request);
            request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
            request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
            request.header.nlmsg_seq = ++sequence_;
            request.body.sdiag_family = static_cast<__u8>(family);
            request.body.sdiag_protocol = static_cast<__u8>(protocol);
            request.body.idiag_states = ~0U;
            if (::send(fd_.get(), &request, sizeof(request), 0) < 0)
                return fail_errno(errno, "ask sock_diag for all sockets");
            for (bool done = false; !done;) {
                BULKHEAD_TRY(done, read_dump(fd_.get(), sequence_, buffer));
            }
        }
    return {};
}

Result<bool> SockDiag::destroy(const bh_walked_socket& socket)
{
    Request request = make_request(SOCK_DESTROY, socket);
    request.header.nlmsg_flags |= NLM_F_ACK;
    request.header.nlmsg_seq = ++sequence_;
    if (::send(fd_.get(), &request, sizeof(request), 0) < 0)
        return fail_errno(errno, "ask sock_diag to destroy a socket");
    BULKHEAD_TRY(const auto answer, read_answer(fd_.get(), request.header.nlmsg_seq));
    if (answer.error == 0)
        return true;
    if (answer.error == ENOENT || answer.error == ESTALE)
        return false;
    auto failure = fail_errno(answer.error, "destroy a socket");
    if (answer.error == EOPNOTSUPP)
        failure.value().mend = "this kernel is built without CONFIG_INET_DIAG_DESTROY";
    return failure;
}

Result<std::uint64_t> SockDiag::find(const bh_walked_socket& socket)
{
    Request request = make_request(SOCK_DIAG_BY_FAMILY, socket);
    request.header.nlmsg_seq = ++sequence_;
    auto& id = request.body.id;
    write_cookie(any_cookie, id);
    if (socket.protocol ==
        IPPROTO_UDP) { // udp_dump_one() takes the ends the other way round, unlike udp_diag_destroy()
        std::swap(id.idiag_sport, id.idiag_dport);
        std::swap(id.idiag_src, id.idiag_dst);
    }
    if (::send(fd_.get(), &request, sizeof(request), 0) < 0)
        return fail_errno(errno, "ask sock_diag for a socket");
    BULKHEAD_TRY(const auto answer, read_answer(fd_.get(), request.header.nlmsg_seq));
    if (answer.error != 0 && answer.error != ENOENT)
        return fail_errno(answer.error, "find a socket");
    return answer.cookie;
}

} // namespace bulkhead::agent
