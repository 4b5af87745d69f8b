// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/enrich.h"
#include "agent/enrich/proc_files.h"
#include "tests/harness/child_process.h"
#include "tests/harness/temp_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <thread>

namespace bulkhead::agent {
namespace {

const ProcFiles proc("/proc");

bh_subject subject_of(std::uint32_t pid)
{
    bh_subject subject{};
    subject.pid = pid;
    subject.uid = ::getuid();
    std::strncpy(subject.comm, "door", sizeof(subject.comm));
    if (const auto open = proc.open_executable(pid)) {
        const auto file = identify_file(open->shown, proc.path(pid, "mountinfo"));
        subject.exe_inode = file.inode;
        subject.exe_device = file.device;
    }
    return subject;
}

std::unique_ptr<ProcessTable> table()
{
    return make_process_table({"/proc", "/sys/fs/cgroup"});
}

TEST(ProcFiles, ReadsItself)
{
    const auto self = static_cast<std::uint32_t>(::getpid());
    EXPECT_EQ(proc.stat(self)->ppid, static_cast<std::uint32_t>(::getppid()));
    EXPECT_GT(proc.stat(self)->start_time, 0U);
    EXPECT_EQ(proc.open_executable(self)->executable.path, std::filesystem::read_symlink("/proc/self/exe").string());
    EXPECT_FALSE(proc.open_executable(self)->executable.deleted);
    EXPECT_NE(proc.open_executable(self)->executable.file.inode, 0U);
    const auto pids = proc.pids();
    EXPECT_NE(std::find(pids.begin(), pids.end(), self), pids.end());
    EXPECT_EQ(proc.name_space(self, "mnt"), proc.name_space(self, "mnt"));
    EXPECT_TRUE(proc.name_space(self, "mnt").has_value());
    EXPECT_FALSE(proc.name_space(self, "nonsense").has_value());
}

TEST(ProcFiles, ParsesHostileText)
{
    const test::TempDir root;
    root.file("7/stat", "7 (a) b) R 1 (x) S 42 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 1\n");
    root.file("8/stat", "8 (short) S 1\n");
    root.file("9/stat", "");
    EXPECT_EQ(ProcFiles(root.path()).stat(7)->ppid, 42U);
    EXPECT_EQ(ProcFiles(root.path()).stat(7)->start_time, 9876U);
    EXPECT_FALSE(ProcFiles(root.path()).stat(8));
    EXPECT_FALSE(ProcFiles(root.path()).stat(9));
    EXPECT_FALSE(ProcFiles(root.path()).stat(10));
    root.file("7/cgroup", "4:memory:/x\n1:name=systemd:/0::/no\n0::/system.slice/a.service\n");
    EXPECT_EQ(ProcFiles(root.path()).cgroup(7), "/system.slice/a.service");
    root.file("8/cgroup", "0::nonsense");
    EXPECT_EQ(ProcFiles(root.path()).cgroup(8), "");
    root.file("7/loginuid", "4294967295");
    root.file("8/loginuid", "1000");
    EXPECT_FALSE(ProcFiles(root.path()).login_uid(7));
    EXPECT_EQ(ProcFiles(root.path()).login_uid(8), 1000U);
    root.file("7/cmdline", std::string("a\0b\0\0", 5));
    agent::PatientReader reader(system_clock());
    EXPECT_EQ(ProcFiles(root.path()).command_line(7, reader), "a b");
    root.file("8/cmdline", std::string(5000, 'x'));
    EXPECT_EQ(ProcFiles(root.path()).command_line(8, reader).size(), 1024U);
}

TEST(ProcessTable, DescribesALivingProcess)
{
    const test::ChildProcess child({"/bin/sleep", "1000"});
    const auto process = table()->describe(subject_of(child.pid()));
    EXPECT_EQ(process.pid(), child.pid());
    EXPECT_EQ(process.ppid(), static_cast<std::uint32_t>(::getpid()));
    EXPECT_EQ(process.exe(), std::filesystem::canonical("/bin/sleep").string());
    EXPECT_EQ(process.cmdline(), "/bin/sleep 1000");
    EXPECT_EQ(process.comm(), "door"); // as it was at the door
    EXPECT_EQ(process.parent_exe(), std::filesystem::read_symlink("/proc/self/exe").string());
    EXPECT_EQ(process.uid(), ::getuid());
}

TEST(ProcessTable, StillNamesAProcessThatDied)
{
    const auto processes = table();
    test::ChildProcess child({"/bin/sleep", "1000"});
    const auto subject = subject_of(child.pid());
    const auto alive = processes->describe(subject);
    child.stop();
    EXPECT_EQ(processes->describe(subject).SerializeAsString(), alive.SerializeAsString());
}

TEST(ProcessTable, ForgetsThoseThatHadNothingToDoWithUsForLongest)
{
    const test::TempDir root;
    const auto processes = make_process_table({root.path(), "/sys/fs/cgroup"});
    const auto words = [&](std::uint32_t pid) {
        bh_subject subject{};
        subject.pid = pid;
        return processes->describe(subject).cmdline();
    };
    constexpr std::uint32_t last = 2500; // a kilobyte each
    for (std::uint32_t pid = 1; pid <= last; ++pid) {
        const auto folder = std::to_string(pid);
        root.file(folder + "/stat", folder + " (a) R 1 1 1 42 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 1\n");
        root.file(folder + "/cmdline", std::string(1000, 'x'));
        EXPECT_EQ(words(pid).size(), 1000U);
        EXPECT_EQ(words(1).size(), 1000U);
    }
    std::filesystem::remove_all(root.path()); // they die, all of them
    EXPECT_EQ(words(last).size(), 1000U);
    EXPECT_EQ(words(1).size(), 1000U); // it was looked at all the time
    EXPECT_EQ(words(2), "");
}

TEST(ProcessTable, NamesTheProgramOfAProcessItNeverSaw)
{
    const auto processes = table();
    const test::ChildProcess seen({"/bin/sleep", "1000"});
    static_cast<void>(processes->describe(subject_of(seen.pid())));
    test::ChildProcess unseen({"/bin/sleep", "2000"});
    const auto subject = subject_of(unseen.pid());
    unseen.stop();
    const auto process = processes->describe(subject);
    EXPECT_EQ(process.exe(), std::filesystem::canonical("/bin/sleep").string());
    EXPECT_EQ(process.cmdline(), "");
    EXPECT_EQ(process.ppid(), 0U);
}

// Anybody may mount in a namespace of his own, and run there what others run, too.
TEST(ProcessTable, AMountOfSomebodysOwnNamesNoProgramOfOthers)
{
    const test::TempDir folder;
    const auto other_name = folder.file("other-name", "");
    const test::ChildProcess own({"/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c",
                                  "mount --bind /bin/sleep " + other_name + " && exec " + other_name + " 1000"});
    for (int i = 0; i < 1000 && proc.executable_link(own.pid()) != other_name; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (proc.executable_link(own.pid()) != other_name)
        GTEST_SKIP() << "needs user namespaces";
    const auto processes = table();
    EXPECT_EQ(processes->describe(subject_of(own.pid())).exe(), other_name);
    test::ChildProcess unseen({"/bin/sleep", "2000"});
    const auto subject = subject_of(unseen.pid());
    unseen.stop();
    EXPECT_EQ(processes->describe(subject).exe(), "");
    if (::geteuid() == 0) { // by a root folder that was passed out
        const test::ChildProcess in_its_root(
            {"/usr/sbin/chroot", "/proc/" + std::to_string(own.pid()) + "/root", other_name, "1000"});
        for (int i = 0; i < 1000 && proc.comm(in_its_root.pid()) != "other-name"; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        EXPECT_EQ(processes->describe(subject_of(in_its_root.pid())).exe(), other_name);
        EXPECT_EQ(processes->describe(subject).exe(), "");
    }
    const test::ChildProcess seen({"/bin/sleep", "1000"});
    static_cast<void>(processes->describe(subject_of(seen.pid())));
    static_cast<void>(processes->describe(subject_of(own.pid())));
    EXPECT_EQ(processes->describe(subject).exe(), std::filesystem::canonical("/bin/sleep").string());
}

TEST(ProcessTable, AProgramInAJailNamesOthersOfItsKind)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "needs root";
    const test::TempDir jail;
    const test::ChildProcess seen({"/usr/bin/perl", "-e", "chroot '" + jail.path() + "'; sleep 1000"});
    test::ChildProcess unseen({"/usr/bin/perl", "-e", "sleep 1000"});
    const auto subject = subject_of(unseen.pid());
    unseen.stop();
    for (int i = 0; i < 1000 && proc.root(seen.pid()) != jail.path(); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const auto processes = table();
    static_cast<void>(processes->describe(subject_of(seen.pid())));
    EXPECT_EQ(processes->describe(subject).exe(), std::filesystem::canonical("/usr/bin/perl").string());
}

TEST(ProcessTable, AProgramAtALongPathMakesNoLongRecord)
{
    const test::TempDir folder;
    std::string path = folder.path();
    for (int i = 0; i < 12; ++i)
        path += "/" + std::string(250, '\xff');
    std::filesystem::create_directories(path);
    path += "/sleep";
    std::filesystem::copy_file("/bin/sleep", path);
    const test::ChildProcess child({path, "1000"});
    const auto process = table()->describe(subject_of(child.pid()));
    EXPECT_LT(process.ByteSizeLong(), 3 * 1024 + 512U);
    EXPECT_TRUE(process.exe().ends_with("/sleep")) << process.exe();
    EXPECT_TRUE(process.exe().starts_with("\xe2\x80\xa6")) << process.exe();
}

TEST(ProcessTable, GivesNoForeignProgramToAnEvent)
{
    const test::ChildProcess child({"/bin/sleep", "1000"});
    auto before_exec = subject_of(child.pid());
    ++before_exec.exe_inode; // what it ran when it passed the door was another file
    const auto processes = table();
    static_cast<void>(processes->describe(subject_of(child.pid())));
    const auto process = processes->describe(before_exec);
    EXPECT_EQ(process.exe(), "");
    EXPECT_EQ(process.cmdline(), "");
    EXPECT_EQ(process.ppid(), static_cast<std::uint32_t>(::getpid())); // exec keeps the parent
    EXPECT_EQ(processes->describe(subject_of(child.pid())).cmdline(), "/bin/sleep 1000");
}

TEST(ProcessTable, LeavesUnknownWhatNobodyCanKnow)
{
    bh_subject subject{};
    subject.pid = 0x7ffffff0;
    subject.uid = 4000000000;
    std::memcpy(subject.comm, "0123456789abcde\xff", sizeof(subject.comm)); // no NUL, no UTF-8
    const auto process = table()->describe(subject);
    EXPECT_EQ(process.comm(), "0123456789abcde\xef\xbf\xbd");
    EXPECT_EQ(process.exe(), "");
    EXPECT_EQ(process.user(), "");
    EXPECT_FALSE(process.has_login_uid());
    v1::Process parsed;
    EXPECT_TRUE(parsed.ParseFromString(process.SerializeAsString()));
}

TEST(ProcessTable, MarksOffADeletedProgram)
{
    const test::TempDir folder;
    const auto program = folder / "sleeper";
    std::filesystem::copy_file(std::filesystem::canonical("/bin/sleep"), program);
    const test::ChildProcess child({program, "1000"});
    std::filesystem::remove(program);
    EXPECT_TRUE(proc.open_executable(child.pid())->executable.deleted);
    EXPECT_EQ(proc.open_executable(child.pid())->executable.path, program);
    EXPECT_EQ(table()->describe(subject_of(child.pid())).exe(), program);
}

// As in ostree, and as a file of a lower layer shows itself in an overlay.
TEST(ProcessTable, MarksOffADeletedProgramThatHasOtherNames)
{
    const test::TempDir folder;
    const auto program = folder / "sleeper";
    std::filesystem::copy_file(std::filesystem::canonical("/bin/sleep"), program);
    std::filesystem::create_hard_link(program, folder / "other");
    const test::ChildProcess child({program, "1000"});
    std::filesystem::remove(program);
    EXPECT_EQ(proc.open_executable(child.pid())->executable.path, program);
    std::filesystem::copy_file(std::filesystem::canonical("/bin/cat"), program); // an upgrade
    EXPECT_TRUE(proc.open_executable(child.pid())->executable.deleted);
    EXPECT_EQ(proc.open_executable(child.pid())->executable.path, program);
}

TEST(ProcessTable, KeepsANameThatOnlyLooksDeleted)
{
    const test::TempDir folder;
    const auto program = folder / "sleeper (deleted)";
    std::filesystem::copy_file(std::filesystem::canonical("/bin/sleep"), program);
    const test::ChildProcess child({program, "1000"});
    EXPECT_FALSE(proc.open_executable(child.pid())->executable.deleted);
    EXPECT_EQ(proc.open_executable(child.pid())->executable.path, program);
}

TEST(ProcFiles, TheNameAndTheFileAreOfOneProgram)
{
    const test::TempDir folder;
    std::map<std::string, std::uint64_t> inodes;
    for (const auto* name : {"a", "b"}) {
        std::filesystem::copy_file(std::filesystem::canonical("/bin/sh"), folder / name);
        inodes[folder / name] = identify_file(folder / name, "/proc/self/mountinfo")->inode;
    }
    const auto one_after_the_other = folder.file("script", "exec \"$2\" \"$0\" \"$2\" \"$1\"\n");
    const test::ChildProcess child({folder / "a", one_after_the_other, folder / "a", folder / "b"});
    for (int i = 0; i < 20000; ++i) {
        const auto open = proc.open_executable(child.pid());
        ASSERT_TRUE(open) << "at look " << i;
        const auto& executable = open->executable;
        ASSERT_EQ(inodes.at(executable.path), executable.file.inode) << executable.path << " at look " << i;
    }
}

// Anybody may have a hundred thousand of them for each of his processes.
TEST(ProcessTable, ReadsNoMountsWhereTheFileShowsTheDeviceOfTheEvent)
{
    const test::TempDir folder; // looks like /proc
    folder.file("7/stat", "7 (program) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 1\n");
    ASSERT_EQ(::mkfifo((folder / "7/mountinfo").c_str(), 0600), 0); // who reads it waits without end
    const UniqueFd memory(::memfd_create("program", MFD_CLOEXEC));  // on no block device
    const auto file = "/proc/self/fd/" + std::to_string(memory.get());
    ASSERT_EQ(::symlink(file.c_str(), (folder / "7/exe").c_str()), 0);
    const auto shown = show_file(memory.get(), "", AT_EMPTY_PATH).value();
    ASSERT_FALSE(shown.file.is_on_block_device());
    auto subject = subject_of(7);
    subject.exe_inode = shown.file.inode;
    subject.exe_device = shown.file.device;
    EXPECT_NE(make_process_table({folder.path(), "/sys/fs/cgroup"})->describe(subject).exe(), "");
    subject.exe_inode += 1; // it has executed another file since
    EXPECT_EQ(make_process_table({folder.path(), "/sys/fs/cgroup"})->describe(subject).exe(), "");
}

TEST(ProcessTable, GivesTheEvaluatorItsFacts)
{
    const test::ChildProcess child({"/bin/sleep", "1000"});
    auto subject = subject_of(child.pid());
    subject.uid = 0;
    const auto facts = table()->facts(subject);
    EXPECT_EQ(facts.exe, std::filesystem::canonical("/bin/sleep").string());
    EXPECT_EQ(facts.user, "root");
    EXPECT_FALSE(facts.sha256);
    subject.uid = 4000000000;
    EXPECT_EQ(table()->facts(subject).user, "4000000000");
}

} // namespace
} // namespace bulkhead::agent
