// SPDX-License-Identifier: Apache-2.0
#include "random_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace bulkhead::wire
{
namespace
{

using ::testing::HasSubstr;
using ::testing::StartsWith;

HostState small_state()
{
    HostState state;
    state.generation = 7;
    state.policy_version = 3;
    state.identities[1] = {1, {{"app", "shop"}}, "", {"shop-db"}};
    state.addresses[IpAddress::from_v4(0x0a000001)] = {1, "db-1"};
    state.own_labels = {{"app", "shop"}};
    return state;
}

v1::PolicyUpdate next_of_small_state()
{
    v1::PolicyUpdate update;
    update.set_base_generation(7);
    update.set_generation(8);
    update.set_policy_version(3);
    return update;
}

std::string error_of(const HostState& state, const v1::PolicyUpdate& update, ErrorKind kind)
{
    const auto result = apply_update(state, update);
    if (result)
        return "no error";
    EXPECT_EQ(result.error().kind, kind) << result.error().message;
    return result.error().message;
}

RC_GTEST_PROP(HostState, DeltaLeadsFromAnyStateToAnyLaterOne, ())
{
    const auto from = random_state();
    auto to = random_state();
    to.generation = from.generation + 1;
    const auto applied = apply_update(from, delta_between(from, to));
    RC_ASSERT(applied.has_value());
    RC_ASSERT(*applied == to);
}

RC_GTEST_PROP(HostState, SnapshotReplacesWhateverWasThere, ())
{
    const auto old = random_state();
    const auto state = random_state();
    v1::PolicyUpdate received;
    RC_ASSERT(received.ParseFromString(snapshot_of(state).SerializeAsString()));
    const auto applied = apply_update(old, received);
    RC_ASSERT(applied.has_value());
    RC_ASSERT(*applied == state);
}

TEST(HostState, DeltaBetweenEqualStatesCarriesNothing)
{
    const auto state = small_state();
    auto next = state;
    next.generation = 8;
    const auto delta = delta_between(state, next);
    EXPECT_FALSE(delta.snapshot());
    EXPECT_FALSE(delta.has_host_policy());
    EXPECT_EQ(delta.upsert_identities_size() + delta.remove_identities_size() + delta.upsert_addresses_size() +
                  delta.remove_addresses_size(),
              0);
}

TEST(HostState, DeltaForOneAddressCarriesThatAddressOnly)
{
    const auto state = small_state();
    auto next = state;
    next.generation = 8;
    next.addresses[IpAddress::from_v4(0x0a000002)] = {1, "db-2"};
    const auto delta = delta_between(state, next);
    ASSERT_EQ(delta.upsert_addresses_size(), 1);
    EXPECT_EQ(delta.upsert_addresses(0).workload(), "db-2");
    EXPECT_EQ(delta.upsert_identities_size(), 0);
    EXPECT_FALSE(delta.has_host_policy());
}

TEST(HostState, DeltaForAnotherBaseAsksForSnapshot)
{
    auto update = next_of_small_state();
    update.set_base_generation(6);
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::failed), StartsWith("need snapshot"));
}

TEST(HostState, DeltaThatRemovesTheUnknownAsksForSnapshot)
{
    auto update = next_of_small_state();
    update.add_remove_identities(99);
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::failed), StartsWith("need snapshot"));
    update = next_of_small_state();
    update.add_remove_addresses(to_wire(IpAddress::from_v4(0x0a000063)));
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::failed), StartsWith("need snapshot"));
}

TEST(HostState, DeltaBackwardsIsRefused)
{
    auto update = next_of_small_state();
    update.set_generation(7);
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::invalid), HasSubstr("generation"));
}

TEST(HostState, SnapshotMustBeWholeAndOnlyAdd)
{
    auto update = snapshot_of(small_state());
    update.clear_host_policy();
    EXPECT_THAT(error_of({}, update, ErrorKind::invalid), HasSubstr("without a host policy"));
    update = snapshot_of(small_state());
    update.add_remove_identities(1);
    EXPECT_THAT(error_of({}, update, ErrorKind::invalid), HasSubstr("removes"));
}

TEST(HostState, ContradictionsAreRefused)
{
    const auto ip = to_wire(IpAddress::from_v4(0x0a000001));
    auto update = next_of_small_state();
    update.add_upsert_identities()->set_id(4);
    update.add_upsert_identities()->set_id(4);
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::invalid), HasSubstr("twice"));

    update = next_of_small_state();
    update.add_upsert_identities()->set_id(1);
    update.add_remove_identities(1);
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::invalid), HasSubstr("both set and removed"));

    update = next_of_small_state();
    update.add_upsert_addresses()->set_ip(ip);
    // the same address, written as IPv4-mapped IPv6
    update.add_upsert_addresses()->set_ip(std::string(10, '\0') + "\xff\xff" + ip);
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::invalid), HasSubstr("twice"));

    update = next_of_small_state();
    update.add_remove_addresses(ip);
    update.add_remove_addresses(ip);
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::invalid), HasSubstr("removed twice"));
}

TEST(HostState, MalformedAddressesAreRefused)
{
    for (const std::size_t size : {0U, 3U, 5U, 15U, 17U}) {
        auto update = next_of_small_state();
        update.add_upsert_addresses()->set_ip(std::string(size, 'x'));
        EXPECT_THAT(error_of(small_state(), update, ErrorKind::invalid), HasSubstr("neither IPv4 nor IPv6")) << size;
    }
}

TEST(HostState, BadPolicyInDeltaIsRefusedWhole)
{
    auto update = next_of_small_state();
    update.add_upsert_identities()->set_id(5);
    update.mutable_host_policy(); // no defaults
    EXPECT_THAT(error_of(small_state(), update, ErrorKind::invalid), HasSubstr("defaults"));
}

} // namespace
} // namespace bulkhead::wire
