// SPDX-License-Identifier: Apache-2.0
// Lines of `--input-file`: whatever is taken must survive writing and reading again, and be one line.
#include "common/record/json.h"

#include <cstdint>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    using namespace bulkhead::record;
    const auto record = from_json({reinterpret_cast<const char*>(data), size});
    if (!record)
        return 0;
    const auto line = to_json(*record);
    const auto again = from_json(line);
    if (!again || to_json(*again) != line || line.find('\n') != std::string::npos)
        std::abort();
    return 0;
}
