// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/net/ip.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::agent {

// Addresses of this network namespace's interfaces that are up, without loopback and link-local ones. Sorted.
[[nodiscard]] Result<std::vector<IpAddress>> own_addresses();

[[nodiscard]] std::string system_hostname();
[[nodiscard]] std::string kernel_release();
[[nodiscard]] Result<std::string> read_boot_id();

// The `nameserver` lines of a resolv.conf(5); a zone ("fe80::1%eth0") is left out. Sorted.
[[nodiscard]] std::vector<IpAddress> parse_resolv_conf(std::string_view text);
// Those of /etc/resolv.conf; where that names a stub on loopback, those that systemd-resolved asks, too.
[[nodiscard]] std::vector<IpAddress> system_resolvers();

// Resolves one name without holding up the caller: start(), then poll() until it answers. Destroying it never waits.
class NameLookup {
public:
    NameLookup();
    ~NameLookup();
    NameLookup(const NameLookup&) = delete;
    NameLookup& operator=(const NameLookup&) = delete;

    void start(const std::string& host); // nothing when one is under way
    // nullopt: no answer yet, or nothing was started. Addresses are sorted.
    [[nodiscard]] std::optional<Result<std::vector<IpAddress>>> poll();

private:
    struct Request;
    std::unique_ptr<Request> request_;
};

} // namespace bulkhead::agent
