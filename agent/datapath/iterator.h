// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "common/core/result.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <functional>
#include <vector>

namespace bulkhead::agent {

inline Result<Link> attach_iterator(bpf_program* program, const char* what)
{
    Link link(bpf_program__attach_iter(program, nullptr));
    if (!link)
        return fail_errno(errno, fmt::format("attach the walk over {}", what));
    return link;
}

// Runs it once over everything there is, of sockets over those of the network namespace of the thread that calls.
// Hands each record on as it is read: how many there are is not ours to say.
template <typename Record, typename Visit>
Status read_iterator(const Link& link, const char* what, const std::function<void()>& on_progress, const Visit& visit)
{
    const UniqueFd fd(bpf_iter_create(bpf_link__fd(link.get())));
    if (!fd)
        return fail_errno(errno, fmt::format("walk {}", what));
    std::vector<std::byte> bytes(64 * 1024);
    std::size_t used = 0;
    auto told = std::chrono::steady_clock::now();
    while (true) {
        const ssize_t got = ::read(fd.get(), bytes.data() + used, bytes.size() - used);
        // A read(2) looks at a million of them at most (bpf_seq_read), and anybody may have so many descriptors.
        if (const auto now = std::chrono::steady_clock::now(); now - told >= std::chrono::seconds(1)) {
            on_progress();
            told = now;
        }
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0)
            return fail_errno(errno, fmt::format("walk {}", what));
        if (got == 0)
            break;
        used += static_cast<std::size_t>(got);
        std::size_t at = 0;
        for (; used - at >= sizeof(Record); at += sizeof(Record)) {
            Record record;
            std::memcpy(&record, bytes.data() + at, sizeof(record));
            visit(record);
        }
        std::memmove(bytes.data(), bytes.data() + at, used - at);
        used -= at;
    }
    if (used != 0)
        return fail(ErrorKind::failed, "walk {}: {} bytes are left over", what, used);
    return {};
}

} // namespace bulkhead::agent
