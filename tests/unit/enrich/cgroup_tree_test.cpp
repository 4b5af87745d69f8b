// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/cgroup_tree.h"
#include "common/core/unique_fd.h"
#include "tests/harness/fake_clock.h"
#include "tests/harness/temp_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

std::uint64_t inode(const std::string& path)
{
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

std::vector<std::string> walked(const std::string& mount, const std::string& below, std::size_t limit = 1000)
{
    std::vector<std::string> paths;
    walk_cgroups(mount, below, [&](const CgroupFolder& folder) -> std::size_t& {
        paths.push_back(folder.path);
        return limit;
    });
    return paths;
}

TEST(CgroupTree, VisitsParentsFirstInNameOrder)
{
    const test::TempDir root;
    root.folder("b.service/inner");
    root.folder("a.slice/z.service");
    root.file("a.slice/cgroup.procs", "");
    EXPECT_EQ(walked(root.path(), "/"),
              (std::vector<std::string>{"/", "/a.slice", "/a.slice/z.service", "/b.service", "/b.service/inner"}));
    EXPECT_EQ(walked(root.path(), "/b.service"), (std::vector<std::string>{"/b.service", "/b.service/inner"}));
    EXPECT_TRUE(walked(root.path(), "/gone").empty());
}

TEST(CgroupTree, DoesNotFollowSymlinksAndStopsAtItsBound)
{
    const test::TempDir root;
    root.folder("a");
    std::filesystem::create_directory_symlink("..", root / "a/up");
    EXPECT_EQ(walked(root.path(), "/"), (std::vector<std::string>{"/", "/a"}));
    std::size_t none = 0;
    EXPECT_FALSE(walk_cgroups(root.path(), "/", [&none](const CgroupFolder&) -> std::size_t& { return none; }));
}

// Its children are named by whom it was given to, and the visit knew only the owner before.
TEST(CgroupTree, LeavesOutWhatIsInAFolderThatIsGivenAwayMeanwhile)
{
    const test::TempDir root;
    const auto given = root.folder("a");
    root.folder("b/1");
    std::vector<std::string> paths;
    std::size_t left = 1000;
    bool gave = false;
    const auto walk = [&] {
        paths.clear();
        return walk_cgroups(root.path(), "/", [&](const CgroupFolder& folder) -> std::size_t& {
            paths.push_back(folder.path);
            if (folder.path == "/a" && !gave) {
                root.folder("a/db.service");
                gave = ::chown(given.c_str(), 4242, 4242) == 0;
            }
            return left;
        });
    };
    EXPECT_TRUE(walk());
    if (!gave)
        GTEST_SKIP() << "needs root";
    EXPECT_EQ(paths, (std::vector<std::string>{"/", "/a", "/b", "/b/1"}));
    EXPECT_TRUE(walk());
    EXPECT_EQ(paths, (std::vector<std::string>{"/", "/a", "/a/db.service", "/b", "/b/1"}));
}

TEST(CgroupTree, GoesNoFurtherThanItIsTold)
{
    const test::TempDir root;
    for (const char* name : {"a/1/x", "a/2", "a/3", "b/1"})
        root.folder(name);
    std::vector<std::string> paths;
    const auto most_of_a = [&](std::size_t most) {
        paths.clear();
        std::size_t left = 1000;
        return walk_cgroups(root.path(), "/", [&](const CgroupFolder& folder) -> std::size_t& {
            paths.push_back(folder.path);
            return folder.path.starts_with("/a") ? most : left;
        });
    };
    EXPECT_TRUE(most_of_a(4));
    EXPECT_EQ(paths.size(), 8U);
    EXPECT_FALSE(most_of_a(3)) << "what is visited has been paid for before";
    EXPECT_EQ(paths.size(), 7U);
    EXPECT_EQ(paths.back(), "/b/1");
    EXPECT_FALSE(most_of_a(0));
    EXPECT_EQ(paths, (std::vector<std::string>{"/", "/a", "/b", "/b/1"}));
}

TEST(CgroupIndex, TakesTheHintOnlyWhenItHasTheId)
{
    const test::TempDir root;
    const test::FakeClock clock;
    const auto a = inode(root.folder("a"));
    const auto b = inode(root.folder("b"));
    CgroupIndex index(root.path(), clock);
    EXPECT_EQ(index.path_of(a, "/a"), "/a");
    EXPECT_NE(index.path_of(b, "/a"), "/a");
    EXPECT_EQ(index.path_of(0, "/a"), "");
}

TEST(CgroupIndex, RemembersWhatIsGone)
{
    const test::TempDir root;
    const test::FakeClock clock;
    const auto id = inode(root.folder("a.service"));
    CgroupIndex index(root.path(), clock);
    ASSERT_EQ(index.path_of(id, "/a.service"), "/a.service");
    std::filesystem::remove(root / "a.service");
    EXPECT_EQ(index.path_of(id, ""), "/a.service");
}

TEST(CgroupMount, IsTheFolderItselfOutsideOfTheHierarchy)
{
    const test::TempDir root;
    EXPECT_EQ(cgroup_mount_of(root.path()), root.path());
    EXPECT_EQ(cgroup_mount_of(root.path() + "/"), root.path());
}

// On the machine's own hierarchy, when it shows one: ids found by the kernel lead to the folders that have them.
TEST(CgroupIndex, FindsFoldersOfTheKernel)
{
    std::string mount;
    for (const auto* candidate : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
        if (std::filesystem::exists(std::string(candidate) + "/cgroup.procs"))
            mount = candidate;
    if (mount.empty())
        GTEST_SKIP() << "no cgroup v2 hierarchy here";
    EXPECT_EQ(cgroup_mount_of(mount), mount);
    const test::FakeClock clock;
    CgroupIndex index(mount, clock);
    std::vector<CgroupFolder> folders;
    std::size_t left = 50;
    walk_cgroups(mount, "/", [&](const CgroupFolder& folder) -> std::size_t& {
        folders.push_back(folder);
        return left;
    });
    ASSERT_FALSE(folders.empty());
    for (const auto& folder : folders) {
        const auto found = index.path_of(folder.id, "");
        if (inode(mount + folder.path) == folder.id) { // still there
            EXPECT_EQ(found, folder.path);
        }
    }
}

// Folders one in the other, whose path in the end is longer than any that the kernel takes.
class LongPath {
public:
    explicit LongPath(const std::string& where)
    {
        folders_.emplace_back(::open(where.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        for (int i = 0; i < 20; ++i) {
            const int outer = folders_.back().get();
            if (::mkdirat(outer, name_.c_str(), 0755) == 0)
                folders_.emplace_back(::openat(outer, name_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        }
    }
    ~LongPath()
    {
        while (folders_.size() > 1) {
            folders_.pop_back();
            ::unlinkat(folders_.back().get(), name_.c_str(), AT_REMOVEDIR);
        }
    }
    LongPath(const LongPath&) = delete;
    LongPath& operator=(const LongPath&) = delete;

    [[nodiscard]] std::size_t levels() const { return folders_.size() - 1; }
    [[nodiscard]] std::uint64_t id() const
    {
        struct stat status {};
        return ::fstat(folders_.back().get(), &status) == 0 ? status.st_ino : 0;
    }

private:
    std::string name_ = std::string(240, 'x');
    std::vector<UniqueFd> folders_;
};

TEST(CgroupTree, SaysThatItDoesNotReachWhatIsTooDeepForAnyPath)
{
    const test::TempDir root;
    const LongPath deep(root.path());
    ASSERT_EQ(deep.levels(), 20U);
    std::size_t limit = 1000;
    EXPECT_FALSE(walk_cgroups(root.path(), "/", [&](const CgroupFolder&) -> std::size_t& { return limit; }));
}

TEST(CgroupIndex, NamesTheNearestThatAPathCanBeShownOf)
{
    std::string mount;
    for (const char* place : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
        if (struct statfs system{}; ::statfs(place, &system) == 0 && system.f_type == CGROUP2_SUPER_MAGIC)
            mount = place;
    const std::string name = "/bulkhead-test-" + std::to_string(::getpid());
    if (mount.empty() || ::mkdir((mount + name).c_str(), 0755) != 0)
        GTEST_SKIP() << "needs root and cgroup v2";
    {
        const LongPath deep(mount + name);
        EXPECT_EQ(deep.levels(), 20U);
        const test::FakeClock clock;
        const auto path = CgroupIndex(mount, clock).path_of(deep.id(), "");
        EXPECT_TRUE(path.starts_with(name + "/xxx")) << path;
        EXPECT_TRUE(path.ends_with("xxx/…")) << path;
    }
    EXPECT_EQ(::rmdir((mount + name).c_str()), 0);
}

} // namespace
} // namespace bulkhead::agent
