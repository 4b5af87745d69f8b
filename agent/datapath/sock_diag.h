// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/abi/bulkhead.h"
#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <cstdint>

namespace bulkhead::agent {

// sock_diag(7) of the network namespace of the thread that opened it.
class SockDiag {
public:
    static Result<SockDiag> open();
    // False: it is gone, or the kernel finds another one by its addresses (the cookie differs), which may hide it.
    [[nodiscard]] Result<bool> destroy(const bh_walked_socket& socket);
    // The cookie of the one that the kernel finds by the addresses and ports of this one, whatever its cookie; 0: none.
    [[nodiscard]] Result<std::uint64_t> find(const bh_walked_socket& socket);
    // The kernel gives a socket its cookie when somebody asks for it: asks for those of all TCP and UDP sockets.
    [[nodiscard]] Status give_cookies();

private:
    explicit SockDiag(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
    std::uint32_t sequence_ = 0;
};

} // namespace bulkhead::agent
