// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/crc32c.h"

#include <array>
#include <cstring>

namespace bulkhead::agent {
namespace {

constexpr std::array<std::uint32_t, 256> make_table()
{
    constexpr std::uint32_t reversed_polynomial = 0x82f63b78;
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit)
            value = (value >> 1) ^ ((value & 1) != 0 ? reversed_polynomial : 0);
        table[i] = value;
    }
    return table;
}

constexpr auto table = make_table();

std::uint32_t by_table(std::string_view bytes, std::uint32_t state)
{
    for (const char c : bytes)
        state = (state >> 8) ^ table[(state ^ static_cast<unsigned char>(c)) & 0xff];
    return state;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(std::string_view bytes, std::uint32_t state)
{
    std::uint64_t wide = state;
    while (bytes.size() >= sizeof(std::uint64_t)) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes.data(), sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
        bytes.remove_prefix(sizeof word);
    }
    state = static_cast<std::uint32_t>(wide);
    for (const char c : bytes)
        state = __builtin_ia32_crc32qi(state, static_cast<unsigned char>(c));
    return state;
}
#endif

} // namespace

std::uint32_t crc32c(std::string_view bytes, std::uint32_t before)
{
#ifdef __x86_64__
    static const bool has_instruction = __builtin_cpu_supports("sse4.2");
    if (has_instruction)
        return ~by_instruction(bytes, ~before);
#endif
    return ~by_table(bytes, ~before);
}

} // namespace bulkhead::agent
