// SPDX-License-Identifier: Apache-2.0
// gRPC ends in a detached thread of its own when its last user goes, and would still be at it when the process ends:
// what OpenSSL keeps for that thread then looks like a leak.
#include <grpc/grpc.h>
#include <gtest/gtest.h>

namespace bulkhead::test {
namespace {

class GrpcThreads final : public testing::Environment {
public:
    void SetUp() override { grpc_init(); }
    void TearDown() override { grpc_shutdown_blocking(); }
};

[[maybe_unused]] const auto* const grpc_threads = testing::AddGlobalTestEnvironment(new GrpcThreads); // gtest owns it

} // namespace
} // namespace bulkhead::test
