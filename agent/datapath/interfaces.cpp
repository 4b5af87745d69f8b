// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/interfaces.h"

#include "agent/datapath/kernel_features.h"

#include <arpa/inet.h>
#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/net_namespace.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <string_view>

namespace bulkhead::agent {

namespace {

constexpr std::size_t answer_size = 32768; // what the kernel fills at most in one part of a dump

Result<UniqueFd> open_route_socket(__u32 groups)
{
    UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    if (!fd)
        return fail_errno(errno, "open a netlink socket");
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_groups = groups;
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        return fail_errno(errno, "bind a netlink socket");
    const timeval patience{2, 0};
    if (::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0)
        return fail_errno(errno, "set a netlink socket's time-out");
    return fd;
}

// Message by message through what one recv(2) gave. The copies make alignment nobody's business.
class Messages {
public:
    Messages(const char* data, std::size_t size) : data_(data), size_(size) {}

    // False at the end, or at a message that does not fit.
    bool next(nlmsghdr& header, std::string_view& body)
    {
        if (size_ < sizeof(header))
            return false;
        std::memcpy(&header, data_, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > size_)
            return false;
        body = {data_ + NLMSG_HDRLEN, header.nlmsg_len - static_cast<std::size_t>(NLMSG_HDRLEN)};
        const std::size_t step = std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), size_);
        data_ += step;
        size_ -= step;
        return true;
    }

private:
    const char* data_;
    std::size_t size_;
};

std::optional<std::string_view> attribute(std::string_view attributes, std::uint16_t wanted)
{
    rtattr header{};
    while (attributes.size() >= sizeof(header)) {
        std::memcpy(&header, attributes.data(), sizeof(header));
        if (header.rta_len < sizeof(header) || header.rta_len > attributes.size())
            return std::nullopt;
        if ((header.rta_type & NLA_TYPE_MASK) == wanted)
            return attributes.substr(RTA_LENGTH(0), header.rta_len - RTA_LENGTH(0));
        attributes.remove_prefix(std::min<std::size_t>(RTA_ALIGN(header.rta_len), attributes.size()));
    }
    return std::nullopt;
}

template <typename Header>
std::optional<Header> head_of(std::string_view& body)
{
    Header header{};
    if (body.size() < NLMSG_ALIGN(sizeof(header)))
        return std::nullopt;
    std::memcpy(&header, body.data(), sizeof(header));
    body.remove_prefix(NLMSG_ALIGN(sizeof(header)));
    return header;
}

LinkHeader header_of(unsigned short type)
{
    switch (type) {
    case ARPHRD_NONE:
    case ARPHRD_TUNNEL:
    case ARPHRD_TUNNEL6:
    case ARPHRD_SIT:
    case ARPHRD_IPGRE:
    case ARPHRD_IP6GRE:
    case ARPHRD_PPP:
    case ARPHRD_RAWIP: return LinkHeader::none;
    case ARPHRD_ETHER:
    case ARPHRD_LOOPBACK: return LinkHeader::ethernet;
    default: return LinkHeader::unknown;
    }
}

IpAddress to_address(std::string_view bytes)
{
    IpAddress address = bytes.size() == 4 ? IpAddress::from_v4(0) : IpAddress{};
    std::memcpy(address.bytes.data() + (16 - bytes.size()), bytes.data(), bytes.size());
    return address;
}

std::uint32_t to_word(std::string_view bytes)
{
    std::uint32_t word = 0;
    if (bytes.size() == sizeof(word))
        std::memcpy(&word, bytes.data(), sizeof(word));
    return word;
}

// Of what is told of a link (IFLA_AF_SPEC of rtnetlink(7)), by numbers that begin with 0.
bool is_set(std::string_view of_family, std::uint16_t settings, std::size_t number)
{
    const auto all = attribute(of_family, settings);
    return all && all->size() >= (number + 1) * sizeof(std::uint32_t) &&
           to_word(all->substr(number * sizeof(std::uint32_t), sizeof(std::uint32_t))) != 0;
}

void read_settings(std::string_view by_family, Interface& one)
{
    const auto v4 = attribute(by_family, AF_INET).value_or("");
    const auto v6 = attribute(by_family, AF_INET6).value_or("");
    one.forwards =
        is_set(v4, IFLA_INET_CONF, IPV4_DEVCONF_FORWARDING - 1) || is_set(v6, IFLA_INET6_CONF, DEVCONF_FORWARDING);
    one.accepts_own = is_set(v4, IFLA_INET_CONF, IPV4_DEVCONF_ACCEPT_LOCAL - 1);
}

// Of an IPv4 address, as fib_add_ifaddr() in net/ipv4/fib_frontend.c has it: the one that was set, the last one of its
// network, or of its peer's, and until Linux 5.14 the first.
std::vector<std::uint32_t> broadcasts_with(std::string_view in_network, std::optional<std::string_view> set,
                                           unsigned prefix_length)
{
    std::set<std::uint32_t> found;
    if (set)
        found.insert(to_word(*set));
    if (prefix_length < 31) {
        const std::uint32_t hosts = htonl(0xffffffffU >> prefix_length);
        const std::uint32_t network = to_word(in_network) & ~hosts;
        found.insert(network | hosts);
        if (kernel_is_older_than(5, 14))
            found.insert(network);
    }
    found.erase(0);
    found.erase(0xffffffffU);
    return {found.begin(), found.end()};
}

// An address of an interface is for that alone: also where it was set as its own broadcast address (as DHCP clients do
// with a network of one address), or is the first or last one of another interface's network.
void leave_out_own(std::vector<InterfaceAddress>& all)
{
    std::set<std::uint32_t> own;
    for (const auto& one : all)
        if (one.address.is_v4())
            own.insert(to_word({reinterpret_cast<const char*>(one.address.bytes.data()) + 12, 4}));
    for (auto& one : all)
        std::erase_if(one.broadcasts, [&own](std::uint32_t address) { return own.contains(address); });
}

} // namespace

Result<InterfaceWatch> InterfaceWatch::open()
{
    BULKHEAD_TRY(UniqueFd changes, open_route_socket(RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR));
    BULKHEAD_TRY(UniqueFd questions, open_route_socket(0));
    return InterfaceWatch(std::move(changes), std::move(questions));
}

bool InterfaceWatch::changed()
{
    std::array<char, 4096> buffer{};
    bool any = false;
    while (true) {
        const auto size = ::recv(changes_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (size > 0 || (size < 0 && (errno == ENOBUFS || errno == EINTR)))
            any = true;
        else
            return any;
    }
}

// Calls `visit` for what the kernel has to say: all of a dump (NLM_F_DUMP), else one answer.
template <typename Question, typename Visit>
Status InterfaceWatch::ask(std::uint16_t type, std::uint16_t flags, const Question& question, const Visit& visit)
{
    struct Request {
        nlmsghdr header{};
        Question question{};
    } request;
    request.question = question;
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof(request.question));
    request.header.nlmsg_type = type;
    request.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    request.header.nlmsg_seq = ++sequence_;
    if (::send(questions_.get(), &request, request.header.nlmsg_len, 0) < 0)
        return fail_errno(errno, "ask for interfaces");
    std::vector<char> buffer(answer_size);
    while (true) {
        const auto size = ::recv(questions_.get(), buffer.data(), buffer.size(), 0);
        if (size < 0 && errno == EINTR)
            continue;
        if (size <= 0)
            return fail_errno(size == 0 ? EPIPE : errno, "read interfaces");
        Messages messages(buffer.data(), static_cast<std::size_t>(size));
        nlmsghdr header{};
        std::string_view body;
        while (messages.next(header, body)) {
            if (header.nlmsg_seq != sequence_)
                continue; // of a question that was given up
            if (header.nlmsg_type == NLMSG_DONE)
                return {};
            if (header.nlmsg_type == NLMSG_ERROR)
                return fail(ErrorKind::failed, "the kernel does not list its interfaces");
            if (!visit(body))
                return fail(ErrorKind::failed, "there are too many to be read");
            if ((flags & NLM_F_DUMP) == 0)
                return {};
        }
    }
}

template <typename Question, typename Visit>
Status InterfaceWatch::dump(std::uint16_t type, const Question& question, const Visit& visit)
{
    return ask(type, NLM_F_DUMP, question, visit);
}

Result<std::vector<Interface>> InterfaceWatch::interfaces(std::size_t at_most)
{
    struct {
        ifinfomsg link{};
        rtattr attribute{RTA_LENGTH(sizeof(__u32)), IFLA_EXT_MASK};
        __u32 mask = RTEXT_FILTER_SKIP_STATS; // most of what would be told of each
    } question;
    std::vector<Interface> found;
    BULKHEAD_CHECK(dump(RTM_GETLINK, question, [&](std::string_view body) {
        const auto link = head_of<ifinfomsg>(body);
        const auto name = link ? attribute(body, IFLA_IFNAME) : std::nullopt;
        if (!name)
            return true;
        Interface one;
        one.index = link->ifi_index;
        one.name = std::string(name->substr(0, name->find('\0')));
        one.loopback = (link->ifi_flags & IFF_LOOPBACK) != 0;
        one.up = (link->ifi_flags & IFF_UP) != 0;
        one.header = header_of(link->ifi_type);
        read_settings(attribute(body, IFLA_AF_SPEC).value_or(""), one);
        if (const auto kind = attribute(attribute(body, IFLA_LINKINFO).value_or(""), IFLA_INFO_KIND))
            one.kind = std::string(kind->substr(0, kind->find('\0')));
        one.has_parent = attribute(body, IFLA_PARENT_DEV_NAME).has_value();
        if (const auto number = attribute(body, IFLA_LINK_NETNSID))
            one.link_netns = static_cast<int>(to_word(*number));
        found.push_back(std::move(one));
        return found.size() <= at_most;
    }));
    return found;
}

Result<std::vector<InterfaceAddress>> InterfaceWatch::addresses(std::size_t at_most)
{
    std::vector<InterfaceAddress> found;
    BULKHEAD_CHECK(dump(RTM_GETADDR, rtgenmsg{AF_UNSPEC}, [&](std::string_view body) {
        const auto head = head_of<ifaddrmsg>(body);
        if (!head || (head->ifa_flags & IFA_F_DADFAILED)) // a neighbour has it (RFC 4862, 5.4.5)
            return true;
        auto bytes = attribute(body, IFA_LOCAL); // of a point-to-point link, IFA_ADDRESS is the other end's
        if (!bytes)
            bytes = attribute(body, IFA_ADDRESS);
        if (!bytes || (bytes->size() != 4 && bytes->size() != 16))
            return true;
        InterfaceAddress one{static_cast<int>(head->ifa_index), to_address(*bytes), {}};
        if (bytes->size() == 4)
            one.broadcasts = broadcasts_with(attribute(body, IFA_ADDRESS).value_or(*bytes),
                                             attribute(body, IFA_BROADCAST), head->ifa_prefixlen);
        found.push_back(std::move(one));
        return found.size() <= at_most;
    }));
    leave_out_own(found);
    return found;
}

Result<std::optional<int>> InterfaceWatch::number_of(int netns)
{
    std::optional<int> number;
    struct {
        rtgenmsg head{AF_UNSPEC};
        std::uint8_t padding[NLMSG_ALIGN(sizeof(rtgenmsg)) - sizeof(rtgenmsg)]{};
        rtattr attribute{RTA_LENGTH(sizeof(__u32)), NETNSA_FD};
        __u32 descriptor = 0;
    } question;
    question.descriptor = static_cast<__u32>(netns);
    BULKHEAD_CHECK(ask(RTM_GETNSID, 0, question, [&](std::string_view body) {
        (void)head_of<rtgenmsg>(body);
        const auto told = attribute(body, NETNSA_NSID);
        if (const int found = told ? static_cast<int>(to_word(*told)) : NETNSA_NSID_NOT_ASSIGNED; found >= 0)
            number = found;
        return true;
    }));
    return number;
}

Result<bool> InterfaceWatch::has_filters(int index)
{
    bool any = false;
    for (const __u32 side : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
        tcmsg question{};
        question.tcm_ifindex = index;
        question.tcm_parent = TC_H_MAKE(TC_H_CLSACT, side);
        BULKHEAD_CHECK(dump(RTM_GETTFILTER, question, [&](std::string_view) { return any = true; }));
    }
    return any;
}

Result<std::uint32_t> InterfaceWatch::program_of(const TcFilter& filter)
{
    std::uint32_t program = 0;
    struct {
        tcmsg message{};
        rtattr attribute{RTA_LENGTH(sizeof(__u32)), TCA_CHAIN};
        __u32 chain = 0; // where a packet begins
    } question;
    question.message.tcm_ifindex = filter.index;
    question.message.tcm_parent = filter.parent;
    question.message.tcm_info = TC_H_MAKE(filter.priority << 16, htons(ETH_P_ALL)); // of others there may be many
    BULKHEAD_CHECK(dump(RTM_GETTFILTER, question, [&](std::string_view body) {
        const auto head = head_of<tcmsg>(body);
        if (!head || head->tcm_handle != filter.handle || TC_H_MAJ(head->tcm_info) >> 16 != filter.priority)
            return true;
        if (const auto id = attribute(attribute(body, TCA_OPTIONS).value_or(""), TCA_BPF_ID))
            program = to_word(*id);
        return true;
    }));
    return program;
}

} // namespace bulkhead::agent
