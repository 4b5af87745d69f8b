// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/host_facts.h"

#include "agent/state/atomic_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sstream>
#include <sys/utsname.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

std::optional<IpAddress> to_address(const sockaddr* from)
{
    if (from == nullptr)
        return std::nullopt;
    IpAddress address;
    if (from->sa_family == AF_INET) {
        sockaddr_in v4{};
        std::memcpy(&v4, from, sizeof v4);
        return IpAddress::from_v4(ntohl(v4.sin_addr.s_addr));
    }
    if (from->sa_family == AF_INET6) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, from, sizeof v6);
        std::copy(std::begin(v6.sin6_addr.s6_addr), std::end(v6.sin6_addr.s6_addr), address.bytes.begin());
        return address;
    }
    return std::nullopt;
}

bool is_link_local(const IpAddress& address)
{
    static const Cidr v4 = *Cidr::parse("169.254.0.0/16");
    static const Cidr v6 = *Cidr::parse("fe80::/10");
    return v4.contains(address) || v6.contains(address);
}

void sort_unique(std::vector<IpAddress>& addresses)
{
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
}

std::vector<IpAddress> resolvers_of(const std::string& path)
{
    const auto text = read_file_if_there(path);
    return text && *text ? parse_resolv_conf(**text) : std::vector<IpAddress>{};
}

} // namespace

Result<std::vector<IpAddress>> own_addresses()
{
    ifaddrs* raw = nullptr;
    if (::getifaddrs(&raw) != 0)
        return fail_errno(errno, "getifaddrs");
    const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(raw, &::freeifaddrs);
    std::vector<IpAddress> addresses;
    for (const ifaddrs* entry = list.get(); entry != nullptr; entry = entry->ifa_next) {
        if ((entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0)
            continue;
        const auto address = to_address(entry->ifa_addr);
        if (address && !address->is_loopback() && !is_link_local(*address))
            addresses.push_back(*address);
    }
    sort_unique(addresses);
    return addresses;
}

std::string system_hostname()
{
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == '\0')
        return "localhost";
    return name.data();
}

std::string kernel_release()
{
    utsname names{};
    return ::uname(&names) == 0 ? names.release : "";
}

Result<std::string> read_boot_id()
{
    const std::string path = "/proc/sys/kernel/random/boot_id";
    BULKHEAD_TRY(const auto text, read_file_if_there(path));
    if (!text)
        return fail(ErrorKind::failed, "{} is missing: is /proc mounted?", path);
    return text->substr(0, text->find('\n'));
}

std::vector<IpAddress> parse_resolv_conf(std::string_view text)
{
    std::vector<IpAddress> addresses;
    std::istringstream lines{std::string(text)};
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string keyword, value;
        if (!(words >> keyword >> value) || keyword != "nameserver")
            continue;
        if (const auto address = IpAddress::parse(value.substr(0, value.find('%'))))
            addresses.push_back(*address);
    }
    sort_unique(addresses);
    return addresses;
}

std::vector<IpAddress> system_resolvers()
{
    auto addresses = resolvers_of("/etc/resolv.conf");
    if (std::any_of(addresses.begin(), addresses.end(), [](const IpAddress& a) { return a.is_loopback(); })) {
        const auto upstream = resolvers_of("/run/systemd/resolve/resolv.conf");
        addresses.insert(addresses.end(), upstream.begin(), upstream.end());
        sort_unique(addresses);
    }
    return addresses;
}

struct NameLookup::Request {
    std::string host;
    addrinfo hints{};
    gaicb call{};
    bool running = false;

    Request() = default;
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    ~Request()
    {
        if (call.ar_result != nullptr)
            ::freeaddrinfo(call.ar_result);
    }
};

NameLookup::NameLookup() = default;

NameLookup::~NameLookup()
{
    // The C library writes into a request that it cannot cancel any more: that one is left to it.
    if (request_ && request_->running && ::gai_cancel(&request_->call) == EAI_NOTCANCELED)
        static_cast<void>(request_.release());
}

void NameLookup::start(const std::string& host)
{
    if (request_ && request_->running)
        return;
    request_ = std::make_unique<Request>();
    request_->host = host;
    request_->hints.ai_socktype = SOCK_STREAM;
    request_->call.ar_name = request_->host.c_str();
    request_->call.ar_request = &request_->hints;
    gaicb* list[] = {&request_->call};
    request_->running = ::getaddrinfo_a(GAI_NOWAIT, list, 1, nullptr) == 0;
}

std::optional<Result<std::vector<IpAddress>>> NameLookup::poll()
{
    if (!request_ || !request_->running)
        return std::nullopt;
    const int code = ::gai_error(&request_->call);
    if (code == EAI_INPROGRESS)
        return std::nullopt;
    request_->running = false;
    if (code != 0)
        return fail(ErrorKind::unreachable, "cannot resolve {}: {}", request_->host, ::gai_strerror(code));
    std::vector<IpAddress> addresses;
    for (const addrinfo* entry = request_->call.ar_result; entry != nullptr; entry = entry->ai_next)
        if (const auto address = to_address(entry->ai_addr))
            addresses.push_back(*address);
    sort_unique(addresses);
    return addresses;
}

} // namespace bulkhead::agent
