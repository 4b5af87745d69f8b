// SPDX-License-Identifier: Apache-2.0
// Segment files: random bytes behind a valid header, and frames with valid sums around random payloads, so that the
// sums do not hide the rest from the fuzzer.
#include "agent/spool/record_frame.h"
#include "agent/spool/segment.h"

#include <cstdint>
#include <cstdlib>

using namespace bulkhead::agent;

namespace {

void check(std::string_view bytes)
{
    const auto scan = scan_segment(bytes);
    if (!scan)
        return;
    if (scan->good_bytes > bytes.size() || scan->index.size() > scan->count ||
        (scan->damaged && scan->claimed <= scan->count))
        std::abort();
    const auto prefix = scan_segment(bytes.substr(0, scan->good_bytes));
    if (!prefix || prefix->count != scan->count || prefix->damaged)
        std::abort();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
{
    const std::string_view input(reinterpret_cast<const char*>(data), size);
    const auto header = encode_segment_header({1, 0});
    check(input);
    check(header + std::string(input));

    auto framed = header;
    for (auto rest = input; rest.size() > 1;) {
        const auto length = std::min<std::size_t>(rest.size() - 1, 1 + static_cast<unsigned char>(rest[0]) / 2);
        framed += encode_frame(rest.substr(1, length), (rest[0] & 1) != 0);
        if (rest[0] == '!' && !framed.empty())
            framed.back() = static_cast<char>(framed.back() ^ 1);
        rest.remove_prefix(1 + length);
    }
    check(framed);
    return 0;
}
