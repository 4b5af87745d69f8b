// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/route_source.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cstring>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_remembered = 4096;
constexpr MonotonicTime remember_for = std::chrono::seconds(1);

struct Question {
    nlmsghdr header;
    rtmsg route;
    rtattr attribute;
    std::array<std::uint8_t, 16> address;
};

Question question_for(const IpAddress& peer)
{
    const std::size_t length = peer.is_v4() ? 4 : 16;
    Question question{};
    question.header.nlmsg_len = static_cast<__u32>(NLMSG_LENGTH(sizeof(rtmsg)) + RTA_LENGTH(length));
    question.header.nlmsg_type = RTM_GETROUTE;
    question.header.nlmsg_flags = NLM_F_REQUEST;
    question.route.rtm_family = peer.is_v4() ? AF_INET : AF_INET6;
    question.route.rtm_dst_len = static_cast<unsigned char>(8 * length);
    question.attribute.rta_len = static_cast<unsigned short>(RTA_LENGTH(length));
    question.attribute.rta_type = RTA_DST;
    std::memcpy(question.address.data(), peer.bytes.data() + (16 - length), length);
    return question;
}

std::optional<IpAddress> to_address(const std::uint8_t* bytes, std::size_t length)
{
    if (length == 16) {
        IpAddress address;
        std::memcpy(address.bytes.data(), bytes, length);
        return address;
    }
    if (length != 4)
        return std::nullopt;
    auto address = IpAddress::from_v4(0);
    std::memcpy(address.bytes.data() + 12, bytes, length);
    return address;
}

// RTA_PREFSRC of one RTM_NEWROUTE message.
std::optional<IpAddress> preferred_source(const std::uint8_t* data, std::size_t size)
{
    nlmsghdr header{};
    constexpr std::size_t attributes_at = NLMSG_SPACE(sizeof(rtmsg));
    if (size < attributes_at)
        return std::nullopt;
    std::memcpy(&header, data, sizeof header);
    if (header.nlmsg_type != RTM_NEWROUTE || header.nlmsg_len > size)
        return std::nullopt;
    for (std::size_t at = attributes_at; at + sizeof(rtattr) <= header.nlmsg_len;) {
        rtattr attribute{};
        std::memcpy(&attribute, data + at, sizeof attribute);
        if (attribute.rta_len < sizeof attribute || at + attribute.rta_len > header.nlmsg_len)
            return std::nullopt;
        if (attribute.rta_type == RTA_PREFSRC)
            return to_address(data + at + RTA_LENGTH(0), attribute.rta_len - RTA_LENGTH(0));
        at += RTA_ALIGN(attribute.rta_len);
    }
    return std::nullopt;
}

} // namespace

std::optional<IpAddress> RouteSource::ask(const IpAddress& peer)
{
    if (!socket_) {
        socket_ = UniqueFd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
        const timeval patience{0, 100'000}; // the kernel answers while it takes the question
        if (!socket_ || ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0)
            return std::nullopt;
    }
    const auto question = question_for(peer);
    std::array<std::uint8_t, 4096> answer{};
    if (::send(socket_.get(), &question, question.header.nlmsg_len, 0) < 0)
        return std::nullopt;
    const auto size = ::recv(socket_.get(), answer.data(), answer.size(), 0);
    if (size < 0) {
        socket_.reset(); // a late answer must not be taken for the next one
        return std::nullopt;
    }
    return preferred_source(answer.data(), static_cast<std::size_t>(size));
}

std::optional<IpAddress> RouteSource::towards(const IpAddress& peer)
{
    const auto now = clock_.monotonic();
    if (now - remembered_since_ > remember_for || remembered_.size() >= max_remembered) {
        remembered_.clear();
        remembered_since_ = now;
    }
    const auto [entry, is_new] = remembered_.try_emplace(peer);
    if (is_new)
        entry->second = ask(peer);
    return entry->second;
}

} // namespace bulkhead::agent
