// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace bulkhead::test {
namespace {

// Of /proc/self/status, in KiB.
[[maybe_unused]] long resident(const std::string& kind)
{
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;)
        if (long kib = 0; word == kind + ":" && status >> kib)
            return kib;
    return -1;
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(BULKHEAD_THREAD_SANITIZER) // code is touched otherwise under them
TEST(Memory, CodeThatIsNotRunIsGivenBack)
{
    const long before = resident("RssFile");
    agent::give_memory_back();
    EXPECT_LT(resident("RssFile"), before * 3 / 4);
}
#endif

#if !defined(__SANITIZE_ADDRESS__) && !defined(BULKHEAD_THREAD_SANITIZER) // their allocators keep what is freed
TEST(Memory, FreedMemoryIsGivenBackAndWhatIsHeldStays)
{
    std::vector<std::unique_ptr<std::string>> small;
    for (int i = 0; i < 100'000; ++i)
        small.push_back(std::make_unique<std::string>(100, static_cast<char>('a' + i % 26)));
    const auto held = std::make_unique<std::string>(std::to_string(small.size())); // above all of them
    const long before = resident("RssAnon");
    small.clear();
    agent::give_memory_back();
    EXPECT_LT(resident("RssAnon"), before - 5'000);
    EXPECT_EQ(*held, "100000");
}
#endif

} // namespace
} // namespace bulkhead::test
