// SPDX-License-Identifier: Apache-2.0
#include "cli/host/host_checks.h"
#include "cli_session.h"

namespace bulkhead::cli {
namespace {

using Grade = Finding::Grade;
using ::testing::HasSubstr;

class Doctor : public CliSession {
protected:
    // A /proc and /sys of our own.
    void put(const std::string& path, const std::string& text)
    {
        const auto full = std::filesystem::path(root()) / path;
        std::filesystem::create_directories(full.parent_path());
        std::ofstream(full) << text;
    }
    std::string root() { return std::filesystem::path(write("marker", "")).parent_path() / "root"; }
    Finding find(const std::string& check)
    {
        for (const auto& finding : check_host({root()}))
            if (finding.check == check)
                return finding;
        ADD_FAILURE() << "no check named " << check;
        return {};
    }
};

TEST_F(Doctor, GoodHostIsGood)
{
    put("sys/kernel/btf/vmlinux", "x");
    put("proc/self/mounts", "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n");
    put("proc/sys/net/core/bpf_jit_enable", "1\n");
    put("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
    for (const char* check : {"BTF", "cgroup v2", "bpffs", "BPF JIT", "privileges"})
        EXPECT_EQ(find(check).grade, Grade::good) << check;
    EXPECT_EQ(find("cgroup v2").what, "/sys/fs/cgroup/unified");
}

TEST_F(Doctor, EachLackHasItsMend)
{
    put("proc/self/mounts", "proc /proc proc rw 0 0\n");
    put("proc/sys/net/core/bpf_jit_enable", "0\n");
    put("proc/self/status", "CapEff:\t0000000000000000\n");
    EXPECT_EQ(find("BTF").grade, Grade::bad);
    EXPECT_EQ(find("cgroup v2").grade, Grade::bad);
    for (const char* check : {"BTF", "cgroup v2", "bpffs", "BPF JIT", "privileges"}) {
        EXPECT_NE(find(check).grade, Grade::good) << check;
        EXPECT_FALSE(find(check).mend.empty()) << check;
    }
}

TEST_F(Doctor, UnreachableControllerFailsOnlyWhereOneIsKnown)
{
    unreachable = Error{ErrorKind::unreachable, "cannot reach the controller", "start it"};
    const auto outcome = run({"doctor"});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.out, HasSubstr("start it"));
    controller_known = false;
    EXPECT_THAT(run({"doctor"}).out, testing::Not(HasSubstr("controller")));
    unreachable.reset();
    controller_known = true;
    EXPECT_THAT(run({"doctor", "-o", "json"}).out, HasSubstr("ctl:7443 answers"));
}

} // namespace
} // namespace bulkhead::cli
