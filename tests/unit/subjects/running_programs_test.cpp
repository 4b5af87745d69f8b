// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/running_programs.h"

#include "tests/harness/child_process.h"
#include "tests/harness/fake_clock.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

namespace bulkhead::agent {
namespace {

namespace fs = std::filesystem;

const ProcFiles proc("/proc");

// Whether what `child` runs may be called `path`.
bool counts(const test::ChildProcess& child, const std::string& path, KeptPrograms& kept)
{
    const auto programs = running_programs(proc, "/", kept, [&](const std::string& asked) { return asked == path; });
    return std::any_of(programs.begin(), programs.end(),
                       [&](const auto& program) { return program.link == proc.path(child.pid(), "exe"); });
}

// At the first look.
bool counts(const test::ChildProcess& child, const std::string& path)
{
    KeptPrograms nothing(system_clock());
    return counts(child, path, nothing);
}

void await_exe(const test::ChildProcess& child, const std::string& text)
{
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (proc.executable_link(child.pid()) != text && std::chrono::steady_clock::now() < deadline)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ASSERT_EQ(proc.executable_link(child.pid()), text);
}

// Processes in mount namespaces of their own. Scripts get the folder of the test as $1; bin/sleeper is theirs alone,
// since bin is mounted there only.
class RunningPrograms : public ::testing::Test {
protected:
    using Arguments = std::vector<std::string>;

    void SetUp() override
    {
        fs::copy_file(fs::canonical("/bin/sleep"), root / "sleep");
        for (const auto* folder : {"bin", "jail", "work"})
            root.folder(folder);
        program = root / "bin/sleeper";
    }

    [[nodiscard]] Arguments script(Arguments in, const std::string& text) const
    {
        for (const auto& word : {std::string("/bin/sh"), std::string("-ec"), text, std::string("sh"), root.path()})
            in.push_back(word);
        return in;
    }
    [[nodiscard]] static bool may_mount()
    {
        return ::geteuid() == 0 && std::system("unshare -m true 2>/dev/null") == 0; // NOLINT(concurrency-mt-unsafe)
    }
    [[nodiscard]] static bool users_may_mount()
    {
        return std::system("unshare -Urm true 2>/dev/null") == 0; // NOLINT(concurrency-mt-unsafe)
    }
    // In the mount namespace of another.
    [[nodiscard]] static Arguments beside(const test::ChildProcess& other)
    {
        return {"/usr/bin/nsenter", "--mount=" + proc.path(other.pid(), "ns/mnt")};
    }

    const Arguments elsewhere{"/usr/bin/unshare", "-m"};
    const Arguments of_a_user{"/usr/bin/unshare", "-Urm"};
    const std::string own_bin = "mount -t tmpfs t $1/bin; cp $1/sleep $1/bin/sleeper; ";
    test::TempDir root;
    std::string program;
    test::FakeClock clock;
    KeptPrograms kept{clock};
};

TEST_F(RunningPrograms, AProgramOfAUserThatWasRemovedKeepsItsName)
{
    fs::copy_file(root / "sleep", program);
    [[maybe_unused]] const auto given = ::chown(program.c_str(), 4242, 4242); // who is not root has it himself
    const test::ChildProcess child({program, "1000"});
    fs::remove_all(root / "bin");
    EXPECT_TRUE(counts(child, program));
}

TEST_F(RunningPrograms, AFolderThatWasMountedOverKeepsItsNames)
{
    if (!may_mount())
        GTEST_SKIP() << "needs root";
    const test::ChildProcess child(script(elsewhere, own_bin + "exec $1/bin/sleeper 1000"));
    await_exe(child, program);
    EXPECT_TRUE(counts(child, program));
    test::ChildProcess over(script(beside(child), "mount -t tmpfs over $1/bin; exec $1/sleep 1000"));
    await_exe(over, root / "sleep");
    EXPECT_TRUE(counts(child, program));
}

TEST_F(RunningPrograms, AMountPointMayHaveASpaceInItsName)
{
    if (!may_mount())
        GTEST_SKIP() << "needs root";
    const test::ChildProcess child(
        script(elsewhere,
               "cd $1/bin; mkdir 'a b'; mount -t tmpfs t 'a b'; cp ../sleep 'a b/sleeper'; exec 'a b/sleeper' 1000"));
    await_exe(child, root / "bin/a b/sleeper");
    EXPECT_TRUE(counts(child, root / "bin/a b/sleeper"));
}

TEST_F(RunningPrograms, AProcessThatChangedItsRootKeepsItsName)
{
    if (!may_mount())
        GTEST_SKIP() << "needs root";
    // Its mountinfo does not show the mount that it was started from; that of the process beside it does.
    const test::ChildProcess first(script(elsewhere, "mount --rbind / $1/jail; " + own_bin + "exec $1/sleep 1000"));
    await_exe(first, root / "sleep");
    const test::ChildProcess child(
        script(beside(first), "exec 9< $1/bin/sleeper; exec chroot $1/jail /proc/self/fd/9 1000"));
    await_exe(child, program);
    EXPECT_TRUE(counts(child, program));
}

TEST_F(RunningPrograms, AProcessInAFolderAsItsRootHasThePathFromOutside)
{
    if (!may_mount())
        GTEST_SKIP() << "needs root";
    const test::ChildProcess child(script(elsewhere, "mount --rbind / $1/jail; exec chroot $1/jail $1/sleep 1000"));
    const auto path = root / "jail" + root / "sleep";
    await_exe(child, path);
    EXPECT_TRUE(counts(child, path));
}

TEST_F(RunningPrograms, AProgramFromHereKeepsItsNameInTheNamespaceOfAUser)
{
    if (!users_may_mount())
        GTEST_SKIP() << "no user namespaces here";
    fs::copy_file(root / "sleep", program);
    const test::ChildProcess child(script({}, "exec 9< $1/bin/sleeper; exec unshare -Urm /proc/self/fd/9 1000"));
    await_exe(child, program);
    fs::remove(program);
    EXPECT_TRUE(counts(child, program));
}

TEST_F(RunningPrograms, AMountInTheNamespaceOfAUserDoesNotCount)
{
    if (!users_may_mount())
        GTEST_SKIP() << "no user namespaces here";
    fs::copy_file(root / "sleep", program);
    const test::ChildProcess child(script(of_a_user, "mount --bind $1/sleep $1/bin/sleeper; exec $1/bin/sleeper 1000"));
    await_exe(child, program);
    EXPECT_FALSE(counts(child, program, kept));
    fs::remove(program);
    EXPECT_FALSE(counts(child, program, kept));
}

// A service with PrivateUsers= whose package is upgraded.
TEST_F(RunningPrograms, WhatWasFoundInTheNamespaceOfAUserKeepsItsNameWhenItIsReplaced)
{
    if (!users_may_mount())
        GTEST_SKIP() << "no user namespaces here";
    fs::copy_file(root / "sleep", program);
    const test::ChildProcess child(script(of_a_user, "exec $1/bin/sleeper 1000"));
    await_exe(child, program);
    EXPECT_TRUE(counts(child, program, kept));
    fs::rename(root / "sleep", program);
    for (int look = 0; look < 3; ++look, clock.advance(std::chrono::seconds(9))) {
        EXPECT_FALSE(counts(child, root / "sleep", kept)) << "another policy's look";
        EXPECT_TRUE(counts(child, program, kept));
    }
    EXPECT_FALSE(counts(child, program)) << "nobody has seen it at its place";
    clock.advance(std::chrono::seconds(2));
    EXPECT_FALSE(counts(child, root / "sleep", kept));
    EXPECT_FALSE(counts(child, program, kept)) << "nobody has asked for it for long";
}

TEST_F(RunningPrograms, WhatWasMovedIsNotCalledAsItWasByMountsOfAUser)
{
    if (!users_may_mount())
        GTEST_SKIP() << "no user namespaces here";
    fs::copy_file(root / "sleep", program);
    const test::ChildProcess first(script(of_a_user, "exec $1/bin/sleeper 1000"));
    await_exe(first, program);
    EXPECT_TRUE(counts(first, program, kept));
    fs::rename(program, root / "work/sleeper");
    const test::ChildProcess child(script(of_a_user, "mount --bind $1/work $1/bin; exec $1/bin/sleeper 1000"));
    await_exe(child, program);
    EXPECT_FALSE(counts(child, program, kept));
    fs::copy_file(root / "sleep", program);
    EXPECT_FALSE(counts(child, program, kept));
    fs::remove(program);
    fs::rename(root / "work/sleeper", program);
    EXPECT_TRUE(counts(first, program, kept)) << "it is back";
}

} // namespace
} // namespace bulkhead::agent
