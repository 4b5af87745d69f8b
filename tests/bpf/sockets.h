// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <sys/socket.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace bulkhead::test {

// An address to connect, bind or send to, of the socket family that it is written for: "10.77.0.1", "fd77::1", and
// "::ffff:10.77.0.1" for IPv4 through an AF_INET6 socket.
struct Address {
    Address(std::string_view text, std::uint16_t port);

    sockaddr_storage storage{};
    socklen_t size = 0;
    [[nodiscard]] int family() const { return storage.ss_family; }
    [[nodiscard]] const sockaddr* get() const;
};

// Blocking sockets with a time limit of three seconds on every call. All throw when they cannot be made.
[[nodiscard]] UniqueFd make_socket(int family, int type);
[[nodiscard]] UniqueFd bound(int type, const Address& address);
[[nodiscard]] UniqueFd listening(const Address& address);
void set_option(const UniqueFd& socket, int level, int option, int value);

// 0 or errno of the call.
[[nodiscard]] int connect_error(const UniqueFd& socket, const Address& to);
[[nodiscard]] int send_to_error(const UniqueFd& socket, const Address& to, std::string_view text = "x");
[[nodiscard]] int send_error(const UniqueFd& socket, std::string_view text = "x"); // connected

// Made, connected, closed.
[[nodiscard]] int tcp_error(const Address& to);
[[nodiscard]] int udp_connect_error(const Address& to);

struct Datagram {
    std::string text;
    sockaddr_storage from{};
    socklen_t from_size = 0;
};
// What comes within the time, or an empty text.
[[nodiscard]] Datagram receive(const UniqueFd& socket,
                               std::chrono::milliseconds within = std::chrono::milliseconds(300));
[[nodiscard]] int reply_error(const UniqueFd& socket, const Datagram& to, std::string_view text);
[[nodiscard]] UniqueFd accepted(const UniqueFd& listener);
[[nodiscard]] std::uint16_t port_of(const UniqueFd& socket);
[[nodiscard]] std::uint64_t cookie_of(const UniqueFd& socket);

} // namespace bulkhead::test
