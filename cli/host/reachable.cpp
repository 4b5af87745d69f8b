// SPDX-License-Identifier: Apache-2.0
#include "cli/host/agent_checks.h"

#include "common/core/unique_fd.h"

#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace bulkhead::cli {
namespace {

using Grade = Finding::Grade;
using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

constexpr int patience_ms = 3000;

// 0, or why not.
int try_to_connect(const addrinfo& address)
{
    const UniqueFd socket(::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket)
        return errno;
    if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0)
        return 0;
    if (errno != EINPROGRESS)
        return errno;
    pollfd ready{socket.get(), POLLOUT, 0};
    if (::poll(&ready, 1, patience_ms) != 1)
        return ETIMEDOUT;
    int error = 0;
    socklen_t size = sizeof error;
    return ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

} // namespace

Findings check_reachable(const std::string& controller)
{
    const auto colon = controller.rfind(':');
    auto host = controller.substr(0, colon);
    if (host.size() > 2 && host.front() == '[')
        host = host.substr(1, host.size() - 2);
    const auto port = colon == std::string::npos ? std::string() : controller.substr(colon + 1);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* raw = nullptr;
    const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &raw);
    const Addresses addresses(raw, &::freeaddrinfo);
    if (error != 0)
        return {{Grade::bad, "controller's name", fmt::format("{}: {}", host, ::gai_strerror(error)),
                 "see /etc/resolv.conf, or put the name into /etc/hosts"}};
    Findings findings{{Grade::good, "controller's name", host + " resolves", ""}};
    int why = 0;
    for (const auto* one = addresses.get(); one != nullptr; one = one->ai_next)
        if (why = try_to_connect(*one); why == 0)
            break;
    if (why == 0)
        findings.push_back({Grade::good, "controller's port", controller + " answers", ""});
    else
        findings.push_back({Grade::bad, "controller's port", fmt::format("{}: {}", controller, std::strerror(why)),
                            "is bulkhead-controller running there, and does every firewall between let tcp pass?"});
    return findings;
}

} // namespace bulkhead::cli
