// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/socket_destroyer.h"

#include "agent/datapath/iterator.h"
#include "agent/datapath/libbpf_messages.h"

#include "destroyer.skel.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

namespace bulkhead::agent {

namespace {

// A kernel walks buckets by counting (before Linux 6.16): what leaves one may make it pass over others.
constexpr int most_walks = 8;

// Of those in the table, what is left in it was not destroyed.
std::vector<const bh_walked_socket*> take_left(int table, std::span<const bh_walked_socket* const> condemned,
                                               std::unordered_set<std::uint64_t>& destroyed)
{
    std::vector<const bh_walked_socket*> left;
    for (const auto* socket : condemned) {
        if (bpf_map_delete_elem(table, &socket->cookie) == 0)
            left.push_back(socket);
        else
            destroyed.insert(socket->cookie);
    }
    return left;
}

Status put_in(int table, std::span<const bh_walked_socket* const> condemned)
{
    for (const auto* socket : condemned) {
        const bh_condemned_socket entry{socket->remote, socket->remote_port};
        if (bpf_map_update_elem(table, &socket->cookie, &entry, BPF_ANY) != 0)
            return fail_errno(errno, "write the table of sockets that are to be destroyed");
    }
    return {};
}

} // namespace

void SocketDestroyer::Deleter::operator()(::destroyer* skeleton) const
{
    ::destroyer::destroy(skeleton);
}

SocketDestroyer::SocketDestroyer(std::function<void()> on_progress, bool is_missing)
    : on_progress_(std::move(on_progress)), is_missing_(is_missing)
{}
SocketDestroyer::~SocketDestroyer() = default;
SocketDestroyer::SocketDestroyer(SocketDestroyer&&) noexcept = default;
SocketDestroyer& SocketDestroyer::operator=(SocketDestroyer&&) noexcept = default;

Result<bool> SocketDestroyer::load()
{
    if (walk_ || is_missing_)
        return !is_missing_;
    std::unique_ptr<::destroyer, Deleter> skeleton(::destroyer::open());
    if (!skeleton)
        return fail_errno(errno, "open the program that destroys sockets");
    const LibbpfWarnings warnings;
    if (const int error = ::destroyer::load(skeleton.get()); error == -ESRCH) {
        is_missing_ = true; // libbpf looked for it among the kernel's functions
        return false;
    } else if (error != 0) {
        return fail_errno(-error, fmt::format("load the program that destroys sockets ({})", warnings.summary()));
    }
    BULKHEAD_TRY(walk_, attach_iterator(skeleton->progs.bh_destroy_udp, "UDP sockets that are to be destroyed"));
    skeleton_ = std::move(skeleton);
    return true;
}

Status SocketDestroyer::destroy(const std::vector<const bh_walked_socket*>& sockets,
                                std::unordered_set<std::uint64_t>& destroyed)
{
    const int table = bpf_map__fd(skeleton_->maps.bh_condemned);
    auto left = sockets; // a walk may show one twice
    const auto by_cookie = [](const auto* socket) { return socket->cookie; };
    std::ranges::sort(left, {}, by_cookie);
    left.erase(std::ranges::unique(left, {}, by_cookie).begin(), left.end());
    for (int walks = 0; walks < most_walks && !left.empty(); ++walks) {
        const auto before = left.size();
        std::vector<const bh_walked_socket*> still_left;
        for (std::size_t at = 0; at < left.size(); at += BH_CONDEMNED_SOCKETS) {
            const auto some =
                std::span(left).subspan(at, std::min<std::size_t>(left.size() - at, BH_CONDEMNED_SOCKETS));
            const auto put = put_in(table, some);
            Status done = put;
            if (put)
                done = read_iterator<char>(walk_, "UDP sockets that are to be destroyed", on_progress_, [](char) {});
            std::unordered_set<std::uint64_t> gone;
            const auto rest = take_left(table, some, gone);
            if (put) // or what was never put in would seem to be gone
                destroyed.merge(gone);
            BULKHEAD_CHECK(done);
            still_left.insert(still_left.end(), rest.begin(), rest.end());
        }
        left = std::move(still_left);
        if (left.size() == before) // they are gone, or talk to another by now
            break;
    }
    return {};
}

} // namespace bulkhead::agent
