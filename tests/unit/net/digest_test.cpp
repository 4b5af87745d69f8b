// SPDX-License-Identifier: Apache-2.0
#include "common/net/digest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace bulkhead {
namespace {

template <typename Digest>
std::string hex(const Digest& digest)
{
    return fmt::format("{:02x}", fmt::join(digest, ""));
}

// Of FIPS 180-2, appendices A and B.
TEST(Digest, MatchesThePublishedExamples)
{
    EXPECT_EQ(hex(*sha1("abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
    EXPECT_EQ(hex(*sha1("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
              "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    EXPECT_EQ(hex(*sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hex(*sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Digest, OfSeveralThreadsAtOnceIsThatOfOne)
{
    const auto first = sha1("a"), second = sha1("b");
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (int round = 0; round < 1000; ++round) {
                ASSERT_EQ(sha1("a"), first);
                ASSERT_EQ(sha1("b"), second);
            }
        });
    for (auto& thread : threads)
        thread.join();
}

} // namespace
} // namespace bulkhead
