// SPDX-License-Identifier: Apache-2.0
// Cgroups that are made below the enforced one are told at once, and whoever makes very many wakes nobody but once.
#include "tests/bpf/fixture.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

namespace bulkhead::test {
namespace {

class CgroupWatch : public BpfTest {
protected:
    void SetUp() override
    {
        BpfTest::SetUp();
        if (IsSkipped() || HasFatalFailure())
            return;
        ASSERT_GE(events(), 0) << "nothing can be attached to cgroup_mkdir";
    }
    [[nodiscard]] int events() const { return datapath_->cgroup_events(); }
    [[nodiscard]] bool is_told() const
    {
        pollfd waiting{events(), POLLIN, 0};
        return ::poll(&waiting, 1, 0) == 1;
    }
    static void make_and_remove(const std::string& path)
    {
        ASSERT_EQ(::mkdir(path.c_str(), 0755), 0) << path << ": errno " << errno;
        ASSERT_EQ(::rmdir(path.c_str()), 0) << path << ": errno " << errno;
    }
};

TEST_F(CgroupWatch, TellsOfOneBelowTheEnforcedOne)
{
    EXPECT_FALSE(is_told());
    EXPECT_FALSE(datapath_->take_new_cgroups());
    make_and_remove(world_->enforced.path() + "/db.service");
    EXPECT_TRUE(is_told());
    EXPECT_TRUE(datapath_->take_new_cgroups());
    EXPECT_FALSE(is_told());
    EXPECT_FALSE(datapath_->take_new_cgroups());

    const Cgroup slice(world_->enforced.path() + "/system.slice");
    EXPECT_TRUE(datapath_->take_new_cgroups());
    make_and_remove(slice.path() + "/db.service");
    EXPECT_TRUE(is_told()) << "however deep";
}

TEST_F(CgroupWatch, ThousandsAreToldOnce)
{
    for (int i = 0; i < 3000; ++i)
        make_and_remove(world_->enforced.path() + "/db.service");
    EXPECT_TRUE(is_told());
    EXPECT_TRUE(datapath_->take_new_cgroups());
    EXPECT_FALSE(is_told());
    make_and_remove(world_->enforced.path() + "/db.service");
    EXPECT_TRUE(is_told()) << "and the next one again";
}

TEST_F(CgroupWatch, TellsOfNoneElsewhere)
{
    make_and_remove(world_->elsewhere.path() + "/db.service");
    make_and_remove(world_->enforced.path() + "-beside");
    EXPECT_FALSE(is_told());
}

// Of his own, where his names count for nothing.
TEST_F(CgroupWatch, TellsOfNoneThatAnotherUserMakes)
{
    const Cgroup delegated(world_->enforced.path() + "/app.service");
    ASSERT_EQ(::chown(delegated.path().c_str(), 4242, 4242), 0);
    EXPECT_TRUE(datapath_->take_new_cgroups());
    as_user(4242, [&] { make_and_remove(delegated.path() + "/db.service"); });
    EXPECT_FALSE(is_told());
    make_and_remove(delegated.path() + "/db.service");
    EXPECT_TRUE(is_told());
}

TEST_F(CgroupWatch, TheNextAgentHearsToo)
{
    datapath_.reset();
    auto again = open(options());
    ASSERT_TRUE(again) << again.error().message;
    datapath_ = std::move(*again);
    ASSERT_GE(events(), 0);
    make_and_remove(world_->enforced.path() + "/db.service");
    EXPECT_TRUE(is_told());
}

} // namespace
} // namespace bulkhead::test
