// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/subjects.h"

#include "agent/enrich/file_identity.h"
#include "tests/harness/child_process.h"
#include "tests/harness/temp_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>

namespace bulkhead::agent {
namespace {

namespace fs = std::filesystem;
using policy::ProcessCondition;

// SHA-256 of "one\n", by sha256sum(1).
constexpr const char* digest_of_one = "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806";

ProcessCondition unit(const std::string& name)
{
    ProcessCondition condition;
    condition.unit = name;
    return condition;
}
ProcessCondition user(const std::string& name)
{
    ProcessCondition condition;
    condition.user = name;
    return condition;
}
ProcessCondition exe(const std::string& pattern)
{
    ProcessCondition condition;
    condition.exe = pattern;
    return condition;
}

class Subjects : public ::testing::Test {
protected:
    void SetUp() override { cgroup = root.folder("cgroup"); }

    FacetTable resolve(const std::vector<ProcessCondition>& conditions)
    {
        if (!resolver)
            resolver = make_subject_resolver({cgroup, cgroup});
        return resolver->resolve(conditions, std::chrono::seconds(60));
    }
    // Class numbers of one row; nullopt when the table has no such row.
    static std::optional<std::set<int>> classes(const FacetTable& table, std::uint32_t facet, std::uint64_t value,
                                                std::uint32_t device = 0)
    {
        for (const auto& row : table)
            if (row.key.facet == facet && row.key.value == value && row.key.device == device) {
                std::set<int> found;
                for (int i = 0; i < BH_CLASSES; ++i)
                    if ((row.classes.word[i / 64] >> (i % 64) & 1) != 0)
                        found.insert(i);
                return found;
            }
        return std::nullopt;
    }
    // Its own, or those of what it lies in; nullopt: it has those by default.
    std::optional<std::set<int>> cgroup_classes(const FacetTable& table, std::string path) const
    {
        for (; !path.empty(); path.resize(path.rfind('/')))
            if (auto found = own_cgroup_classes(table, path))
                return found;
        return std::nullopt;
    }
    std::optional<std::set<int>> own_cgroup_classes(const FacetTable& table, const std::string& path) const
    {
        struct stat status {};
        EXPECT_EQ(::stat((cgroup + path).c_str(), &status), 0);
        return classes(table, BH_FACET_CGROUP, status.st_ino);
    }
    static std::optional<std::set<int>> program_classes(const FacetTable& table, const std::string& path)
    {
        const auto file = identify_file(path, "/proc/self/mountinfo");
        EXPECT_TRUE(file) << path;
        return file ? classes(table, BH_FACET_EXECUTABLE, file->inode, file->device) : std::nullopt;
    }

    using Set = std::set<int>;
    test::TempDir root;
    std::string cgroup;
    std::unique_ptr<SubjectResolver> resolver;
};

TEST_F(Subjects, NoConditionIsThreeDefaults)
{
    const auto table = resolve({});
    ASSERT_EQ(table.size(), 3U);
    for (const auto facet : {BH_FACET_USER, BH_FACET_CGROUP, BH_FACET_EXECUTABLE})
        EXPECT_EQ(classes(table, static_cast<std::uint32_t>(facet) | BH_FACET_DEFAULT, 0), Set{0});
}

TEST_F(Subjects, UsersByNameAndNumber)
{
    const auto table = resolve({user("root"), user("4242"), user("no-such-user-here"), unit("x.service")});
    EXPECT_EQ(classes(table, BH_FACET_USER, 0), (Set{0, 1, 4}));
    EXPECT_EQ(classes(table, BH_FACET_USER, 4242), (Set{0, 2, 4}));
    EXPECT_EQ(classes(table, BH_FACET_USER | BH_FACET_DEFAULT, 0), (Set{0, 4}));
    EXPECT_EQ(classes(table, BH_FACET_USER, 1), std::nullopt);
    const auto unmatched = resolver->unmatched();
    EXPECT_NE(std::find(unmatched.begin(), unmatched.end(), "user 'no-such-user-here': no such user on this host"),
              unmatched.end());
}

TEST_F(Subjects, UnitsReachEverythingBelowThem)
{
    root.folder("cgroup/system.slice/db.service/worker");
    root.folder("cgroup/system.slice/web.service");
    root.folder("cgroup/user.slice");
    const auto table = resolve({unit("db.service"), unit("system.slice"), user("root")});
    EXPECT_EQ(cgroup_classes(table, "/system.slice/db.service"), (Set{0, 1, 2, 3}));
    EXPECT_EQ(cgroup_classes(table, "/system.slice/db.service/worker"), (Set{0, 1, 2, 3}));
    EXPECT_EQ(cgroup_classes(table, "/system.slice/web.service"), (Set{0, 2, 3}));
    EXPECT_EQ(cgroup_classes(table, "/user.slice"), std::nullopt); // the default decides
    EXPECT_EQ(classes(table, BH_FACET_CGROUP | BH_FACET_DEFAULT, 0), (Set{0, 3}));
    EXPECT_TRUE(resolver->unmatched().empty());
}

// Or whoever may make cgroups in a unit makes the table full.
TEST_F(Subjects, OnlyWhatDiffersFromWhatItLiesInHasARow)
{
    std::vector<std::string> at{"", "/system.slice", "/system.slice/db.service"}; // by level
    while (at.size() <= 18)
        at.push_back(at.back() + (at.size() == 16 ? "/deep.service" : "/n"));
    root.folder("cgroup" + at.back());
    const auto table = resolve({unit("db.service"), unit("system.slice"), unit("deep.service")});
    EXPECT_EQ(own_cgroup_classes(table, at[1]), (Set{0, 2}));
    EXPECT_EQ(own_cgroup_classes(table, at[2]), (Set{0, 1, 2}));
    for (std::size_t level = 3; level <= 15; ++level)
        EXPECT_EQ(own_cgroup_classes(table, at[level]), std::nullopt) << level;
    for (std::size_t level = 16; level <= 18; ++level)
        EXPECT_EQ(own_cgroup_classes(table, at[level]), (Set{0, 1, 2, 3}))
            << "the kernel does not look for what it lies in at level 16";
}

TEST_F(Subjects, AUserCannotNameHisCgroupLikeAService)
{
    root.folder("cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/db.service");
    const auto table = resolve({unit("db.service"), unit("user@1000.service")});
    EXPECT_EQ(cgroup_classes(table, "/user.slice/user-1000.slice/user@1000.service/app.slice/db.service"), (Set{0, 2}));
    EXPECT_EQ(resolver->unmatched().size(), 1U);
}

TEST_F(Subjects, NamesBelowADelegatedCgroupDoNotCount)
{
    const auto delegated = root.folder("cgroup/system.slice/app.service");
    root.folder("cgroup/system.slice/app.service/db.service/more");
    if (::chown(delegated.c_str(), 4242, 4242) != 0)
        GTEST_SKIP() << "needs root";
    const auto table = resolve({unit("db.service"), unit("app.service")});
    EXPECT_EQ(cgroup_classes(table, "/system.slice/app.service/db.service"), (Set{0, 2}));
    EXPECT_EQ(cgroup_classes(table, "/system.slice/app.service/db.service/more"), (Set{0, 2}));
    EXPECT_EQ(cgroup_classes(table, "/system.slice/app.service"), (Set{0, 2}));
}

TEST_F(Subjects, RootOfAMachineCannotNameHisCgroupLikeAService)
{
    for (const std::string machine : {"/machine.slice/machine-c1.scope", "/machine.slice/systemd-nspawn@c2.service",
                                      "/lxc.payload.c3", "/lxc/lxc.payload"}) {
        root.folder("cgroup" + machine + "/payload/db.service");
        EXPECT_EQ(cgroup_classes(resolve({unit("db.service")}), machine + "/payload/db.service"), std::nullopt)
            << machine;
    }
}

TEST_F(Subjects, WhoeverMakesVeryManyCgroupsKeepsNoOthersFromBeingFound)
{
    const auto container = root.folder("cgroup/docker/" + std::string(64, 'c')); // comes before system.slice
    const auto fill = [](const std::string& folder, int count) {
        for (int i = 0; i < count; ++i)
            ASSERT_EQ(::mkdir((folder + "/" + std::to_string(i)).c_str(), 0755), 0);
    };
    // Below each other: whoever is asked only when he is visited has let in very many by then.
    auto folder = container;
    for (int level = 0; level < 17; ++level, folder += "/0")
        fill(folder, 4000);
    root.folder("cgroup/system.slice/db.service");
    ProcessCondition in_container;
    in_container.container = std::string(64, 'c');
    const auto table = resolve({unit("db.service"), in_container});
    EXPECT_EQ(cgroup_classes(table, "/system.slice/db.service"), (Set{0, 1}));
    EXPECT_EQ(cgroup_classes(table, "/docker/" + std::string(64, 'c')), (Set{0, 2}));
    EXPECT_THAT(resolver->unmatched(), ::testing::Contains(::testing::HasSubstr("too many cgroups")));
}

TEST_F(Subjects, ContainersByIdOrItsBeginning)
{
    const std::string id(64, 'c');
    root.folder("cgroup/system.slice/docker-" + id + ".scope/init");
    ProcessCondition container;
    container.container = "cccccccccccc";
    const auto table = resolve({container});
    EXPECT_EQ(cgroup_classes(table, "/system.slice/docker-" + id + ".scope/init"), (Set{0, 1}));
    EXPECT_EQ(classes(table, BH_FACET_CGROUP | BH_FACET_DEFAULT, 0), Set{0});
}

TEST_F(Subjects, TheFolderItselfIsNamedByItsWholePath)
{
    const auto scope = root.folder("cgroup/system.slice/db.service");
    resolver = make_subject_resolver({scope + "/", cgroup});
    const auto table = resolve({unit("db.service"), unit("system.slice")});
    EXPECT_EQ(cgroup_classes(table, "/system.slice/db.service"), (Set{0, 1, 2}));
    EXPECT_EQ(cgroup_classes(table, "/system.slice"), std::nullopt); // not ours
}

TEST_F(Subjects, LooksAtCgroupsAloneAndKeepsTheRest)
{
    const auto same = [](const FacetTable& a, const FacetTable& b) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const FacetRow& x, const FacetRow& y) {
            return std::memcmp(&x.key, &y.key, sizeof(x.key)) == 0 &&
                   std::memcmp(&x.classes, &y.classes, sizeof(x.classes)) == 0;
        });
    };
    const auto program = root.file("program", "one\n");
    fs::permissions(program, fs::perms::owner_all);
    const std::vector conditions{unit("db.service"), user("4242"), exe(program), unit("gone.service")};
    root.folder("cgroup/gone.service");
    const auto before = resolve(conditions);
    const auto unmatched = resolver->unmatched();
    EXPECT_TRUE(same(resolver->with_cgroups_of_now(conditions, before), before));
    root.folder("cgroup/system.slice/db.service");
    fs::remove(root / "cgroup/gone.service");
    fs::remove(program);
    const auto now = resolver->with_cgroups_of_now(conditions, before);
    EXPECT_EQ(cgroup_classes(now, "/system.slice/db.service"), (Set{0, 1, 2, 3}));
    EXPECT_EQ(now.size(), before.size()) << "one came and one went, and the program is not looked for";
    EXPECT_EQ(resolver->unmatched(), unmatched);
    root.file("program", "one\n");
    EXPECT_TRUE(same(resolver->with_cgroups_of_now({user("4242")}, before), before)) << "none is named";
}

TEST_F(Subjects, FollowsCgroupsAsTheyComeAndGo)
{
    const std::vector conditions{unit("db.service")};
    EXPECT_EQ(resolve(conditions).size(), 3U);
    root.folder("cgroup/db.service");
    EXPECT_EQ(resolve(conditions).size(), 4U);
    fs::remove(root / "cgroup/db.service");
    EXPECT_EQ(resolve(conditions).size(), 3U);
}

TEST_F(Subjects, ProgramsByGlobThroughSymlinks)
{
    const auto real = root.file("bin/python3.11", "x", 0755);
    const auto other = root.file("bin/perl", "x", 0755);
    const auto plain = root.file("bin/python.txt", "x", 0644);
    fs::create_symlink("python3.11", root / "bin/python3");
    const auto table = resolve({exe(root / "bin/python3"), exe(root / "bin/py*"), user("root")});
    EXPECT_EQ(program_classes(table, real), (Set{0, 1, 2, 3}));
    EXPECT_EQ(program_classes(table, other), std::nullopt);
    EXPECT_EQ(program_classes(table, plain), std::nullopt); // cannot be run
    EXPECT_EQ(classes(table, BH_FACET_EXECUTABLE | BH_FACET_DEFAULT, 0), (Set{0, 3}));
}

TEST_F(Subjects, AHardLinkIsInAllItsClasses)
{
    const auto first = root.file("a/tool", "x", 0755);
    fs::create_directory(root / "b");
    fs::create_hard_link(first, root / "b/tool");
    const auto table = resolve({exe(root / "a/*"), exe(root / "b/*")});
    EXPECT_EQ(program_classes(table, first), (Set{0, 1, 2}));
}

TEST_F(Subjects, ADigestIsOfTheContentAsItIs)
{
    auto signed_tool = exe(root / "bin/tool*");
    signed_tool.sha256 = digest_of_one;
    const std::vector conditions{signed_tool, exe(root / "bin/tool*")};
    const auto tool = root.file("bin/tool", "one\n", 0755);
    const auto forged = root.file("bin/tool2", "two\n", 0755);
    auto table = resolve(conditions);
    EXPECT_EQ(program_classes(table, tool), (Set{0, 1, 2}));
    EXPECT_EQ(program_classes(table, forged), (Set{0, 2}));
    root.file("bin/tool", "two\n", 0755); // written in place: the same inode and size
    table = resolve(conditions);
    EXPECT_EQ(program_classes(table, tool), (Set{0, 2}));
    EXPECT_EQ(resolver->unmatched().size(), 1U);
}

TEST_F(Subjects, ADigestMayBeWrittenInCapitals)
{
    auto signed_tool = exe(root / "bin/tool");
    std::string digest = digest_of_one;
    std::transform(digest.begin(), digest.end(), digest.begin(),
                   [](char c) { return static_cast<char>(std::toupper(c)); });
    signed_tool.sha256 = digest;
    const auto tool = root.file("bin/tool", "one\n", 0755);
    EXPECT_EQ(program_classes(resolve({signed_tool}), tool), (Set{0, 1}));
}

TEST_F(Subjects, ProgramsThatAreNotReadYetMatchNoDigestAndAreNamed)
{
    auto signed_tool = exe(root / "bin/*");
    signed_tool.sha256 = digest_of_one;
    const auto large = root.file("bin/large", "", 0755);
    ASSERT_EQ(::truncate(large.c_str(), 1 << 30), 0);
    const auto tool = root.file("bin/tool", "one\n", 0755);
    resolver = make_subject_resolver({cgroup, cgroup});
    (void)resolver->resolve({signed_tool}, std::chrono::milliseconds(0));
    EXPECT_THAT(resolver->unmatched(),
                ::testing::Contains(::testing::ContainsRegex("[12] of 2 programs are not read yet for their sha256")));
    EXPECT_EQ(program_classes(resolve({signed_tool}), tool), (Set{0, 1}));
}

TEST_F(Subjects, AProgramThatWasReplacedWhileItRunsKeepsItsClass)
{
    const auto program = root / "sleeper";
    fs::copy_file(fs::canonical("/bin/sleep"), program);
    const auto inode = identify_file(program, "/proc/self/mountinfo").value();
    const test::ChildProcess child({program, "1000"});
    fs::remove(program);
    root.file("sleeper", "new", 0755);
    resolver = make_subject_resolver({"/", "/"}); // wherever the test itself runs
    const auto table = resolve({exe(program)});
    EXPECT_EQ(classes(table, BH_FACET_EXECUTABLE, inode.inode, inode.device), (Set{0, 1}));
    EXPECT_EQ(program_classes(table, program), (Set{0, 1}));
}

// Of a service with a user namespace of its own, whose path counts only while the file is found by it.
TEST_F(Subjects, ProgramsAreKeptWhileAPolicyOnTrialNamesNone)
{
    if (std::system("unshare -Urm true 2>/dev/null") != 0) // NOLINT(concurrency-mt-unsafe)
        GTEST_SKIP() << "no user namespaces here";
    const auto program = root / "sleeper";
    fs::copy_file(fs::canonical("/bin/sleep"), program);
    const auto inode = identify_file(program, "/proc/self/mountinfo").value();
    const test::ChildProcess child({"/usr/bin/unshare", "-Urm", program, "1000"});
    const auto link = "/proc/" + std::to_string(child.pid()) + "/exe";
    while (fs::read_symlink(link) != program)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    resolver = make_subject_resolver({"/", "/"});
    const auto counts = [&] {
        return classes(resolve({exe(program)}), BH_FACET_EXECUTABLE, inode.inode, inode.device) == Set{0, 1};
    };
    EXPECT_TRUE(counts());
    fs::remove(program);
    root.file("sleeper", "new", 0755);
    EXPECT_TRUE(counts()) << "its package was upgraded";
    (void)resolve({user("root")});
    EXPECT_TRUE(counts()) << "the policy before goes on";
}

TEST_F(Subjects, ProgramsRunningOutsideOfTheCgroupDoNotCount)
{
    const auto program = root / "sleeper";
    fs::copy_file(fs::canonical("/bin/sleep"), program);
    const test::ChildProcess child({program, "1000"});
    fs::remove(program);
    resolver = make_subject_resolver({cgroup + "/elsewhere.slice", cgroup});
    EXPECT_EQ(resolve({exe(program)}).size(), 3U);
}

TEST_F(Subjects, TheSameHostGivesTheSameBytes)
{
    root.folder("cgroup/b.service");
    root.folder("cgroup/a.service");
    root.file("bin/tool", "x", 0755);
    root.file("bin/tool2", "x", 0755);
    const std::vector conditions{unit("a.service"), unit("b.service"), exe(root / "bin/*"), user("root")};
    const auto first = resolve(conditions);
    const auto second = resolve(conditions);
    const auto fresh = make_subject_resolver({cgroup, cgroup})->resolve(conditions, std::chrono::seconds(60));
    ASSERT_EQ(first.size(), second.size());
    ASSERT_EQ(first.size(), fresh.size());
    EXPECT_EQ(std::memcmp(first.data(), second.data(), first.size() * sizeof(FacetRow)), 0);
    EXPECT_EQ(std::memcmp(first.data(), fresh.data(), first.size() * sizeof(FacetRow)), 0);
}

TEST_F(Subjects, TheLastClassHasItsBit)
{
    std::vector<ProcessCondition> conditions(BH_CLASSES - 1);
    conditions.back().user = "root";
    const auto table = resolve(conditions);
    EXPECT_EQ(classes(table, BH_FACET_USER, 0)->size(), static_cast<std::size_t>(BH_CLASSES));
    EXPECT_FALSE(classes(table, BH_FACET_USER | BH_FACET_DEFAULT, 0)->contains(BH_CLASSES - 1));
}

} // namespace
} // namespace bulkhead::agent
