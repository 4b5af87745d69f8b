// SPDX-License-Identifier: Apache-2.0
// What the kernel is told when cgroups are made, between two ticks.
#include "tests/unit/agent/enforcer_life.h"

#include <gmock/gmock.h>

namespace bulkhead::agent {
namespace {

using ::testing::IsEmpty;

class NewCgroups : public ::testing::Test {
protected:
    test::TempDir dir;
    test::ScriptedDatapath kernel;
};

TEST_F(NewCgroups, ANewCgroupIsToldBesideAllThatIsKnown)
{
    Life life(kernel, dir.path());
    life.enforcer.look_at_cgroups();
    EXPECT_EQ(life.subjects.cgroup_looks, 0U) << "no policy";
    ASSERT_TRUE(life.resume());
    FacetRow user;
    user.key.value = 1000;
    life.subjects.table = {user};
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    life.subjects.missing = {"unit 'db.service': no such cgroup"};
    life.enforcer.look_at_cgroups();
    EXPECT_THAT(kernel.facet_updates, IsEmpty()) << "none is new";

    FacetRow unit;
    unit.key.facet = BH_FACET_CGROUP;
    unit.key.value = 7;
    life.subjects.new_cgroups = {unit};
    life.enforcer.look_at_cgroups();
    life.enforcer.look_at_cgroups();
    ASSERT_EQ(kernel.facet_updates.size(), 1U);
    ASSERT_EQ(kernel.facet_updates[0].size(), 2U);
    EXPECT_EQ(kernel.facet_updates[0][0].key.value, 1000U);
    EXPECT_EQ(kernel.facet_updates[0][1].key.value, 7U);
    EXPECT_THAT(life.enforcer.unmatched(), IsEmpty()) << "that is the tick's to say";
}

TEST_F(NewCgroups, ANewCgroupThatCannotBeToldIsToldByTheNextTick)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    life.subjects.table = life.subjects.new_cgroups = {FacetRow{}};
    kernel.facets_fail = true;
    life.enforcer.look_at_cgroups();
    kernel.facets_fail = false;
    life.enforcer.look_at_cgroups();
    EXPECT_THAT(kernel.facet_updates, IsEmpty()) << "what the kernel holds is not known";
    life.enforcer.tick();
    EXPECT_EQ(kernel.facet_updates.size(), 1U);
}

TEST_F(NewCgroups, InAQuarantineNoCgroupIsLookedFor)
{
    Life life(kernel, dir.path());
    ASSERT_TRUE(life.resume());
    ASSERT_TRUE(life.enforcer.enforce(state_of(1), PolicySource::controller));
    ASSERT_TRUE(life.enforcer.set_quarantine({QuarantineHold{}, {}}));
    life.enforcer.look_at_cgroups();
    EXPECT_EQ(life.subjects.cgroup_looks, 0U);
}

} // namespace
} // namespace bulkhead::agent
