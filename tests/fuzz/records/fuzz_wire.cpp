// SPDX-License-Identifier: Apache-2.0
// Policy updates from a controller: what is taken must be what its own snapshot says, and what is signed.
#include "common/wire/state_digest.h"

#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    using namespace bulkhead;
    v1::PolicyUpdate update;
    if (!update.ParseFromArray(data, static_cast<int>(size)))
        return 0;
    wire::HostState base;
    base.generation = update.base_generation();
    const auto state = wire::apply_update(base, update);
    if (!state)
        return 0;
    const auto copy = wire::apply_update({}, wire::snapshot_of(*state));
    if (!copy || *copy != *state || wire::state_digest(*copy) != wire::state_digest(*state))
        std::abort();
    return 0;
}
