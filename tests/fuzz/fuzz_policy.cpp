// SPDX-License-Identifier: Apache-2.0
#include "common/policy/compile.h"
#include "common/policy/parse.h"
#include "common/policy/plane_image.h"

#include <cstdint>
#include <cstdlib>

using namespace bulkhead;
using namespace bulkhead::policy;

// Whatever the bytes are: an answer, within the bounds. What is accepted compiles and lowers, or is refused with a
// reason.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const SourceFile file{"fuzz.yaml", std::string(reinterpret_cast<const char*>(data), size)};
    const auto outcome = parse({&file, 1});
    for (const auto& diagnostic : outcome.diagnostics)
        if (diagnostic.message.empty() || diagnostic.to_string().find("fuzz.yaml") != 0)
            std::abort();
    if (!outcome.ok())
        return 0;
    IdentityId next = 0;
    const auto number = [&next](const Labels&, const std::string&) { return ++next; };
    const auto identities = build_identities(outcome.policy, merge_declared({}, outcome.policy), number);
    for (const auto& identity : identities.identities) {
        const auto host = compile_host(outcome.policy, identities.identities, identity.labels, identity.named_workload);
        if (!host)
            continue;
        for (const auto plane : {Plane::active, Plane::shadow})
            if (const auto image = lower(*host, plane, identities.addresses); image)
                for (const auto& [address, entry] : identities.addresses)
                    static_cast<void>(
                        judge(*image, *host, {Direction::inbound, Protocol::tcp, address, 22}, ClassVector(1)));
    }
    return 0;
}
