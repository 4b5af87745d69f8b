// SPDX-License-Identifier: Apache-2.0
#include "cli/host/agent_checks.h"
#include "cli/host/conflicts.h"
#include "cli/host/host_checks.h"
#include "cli_session.h"

#include <linux/bpf.h>
#include <sys/stat.h>
#include <sys/utsname.h>

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
    Finding find(const std::string& check) { return find_in(check_host(paths()), check); }
    // Without programs to run, unless a test gives their output.
    HostPaths paths()
    {
        return {root(), [this](const std::vector<std::string>& argv) -> std::optional<ProgramEnd> {
                    const auto found = programs.find(argv.front());
                    return found == programs.end() ? std::nullopt : std::optional(ProgramEnd{exit_code, found->second});
                }};
    }
    static Finding find_in(const Findings& findings, const std::string& check)
    {
        for (const auto& finding : findings)
            if (finding.check == check)
                return finding;
        ADD_FAILURE() << "no check named " << check;
        return {};
    }
    Findings agent_files(std::chrono::hours later = {})
    {
        return check_agent_files(paths(), find_agent(paths(), ""), std::chrono::system_clock::now() + later);
    }
    std::string state(const std::string& name = {}) { return root() + "/var/lib/bulkhead" + name; }
    std::map<std::string, std::string> programs;
    int exit_code = 0; // of all of them
};

TEST_F(Doctor, GoodHostIsGood)
{
    put("sys/kernel/btf/vmlinux", "x");
    put("proc/self/mounts", "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n");
    put("proc/sys/net/core/bpf_jit_enable", "1\n");
    put("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n");
    for (const char* check : {"BTF", "cgroup v2", "bpffs", "BPF JIT", "privileges"})
        EXPECT_EQ(find(check).grade, Grade::good) << check;
    EXPECT_EQ(find("cgroup v2").what, "/sys/fs/cgroup/unified, unified");
}

TEST_F(Doctor, EachLackHasItsMend)
{
    put("proc/self/mounts", "proc /proc proc rw 0 0\n");
    put("proc/sys/net/core/bpf_jit_enable", "0\n");
    put("proc/self/status", "CapEff:\t0000000000000000\n");
    EXPECT_EQ(find("BTF").grade, Grade::bad);
    EXPECT_EQ(find("cgroup v2").grade, Grade::bad);
    // Want of privileges is this shell's, and no fault of the host.
    EXPECT_EQ(find("privileges").grade, ::geteuid() == 0 ? Grade::warning : Grade::unseen);
    for (const char* check : {"BTF", "cgroup v2", "bpffs", "BPF JIT", "privileges"}) {
        EXPECT_NE(find(check).grade, Grade::good) << check;
        EXPECT_FALSE(find(check).mend.empty()) << check;
    }
}

TEST_F(Doctor, UnreachableControllerFailsOnlyWhereOneIsKnown)
{
    // Not where the agent of this very machine would be.
    const auto config = write("agent.yaml", "state_dir: " + root() + "\npin_dir: " + root() + "/pins\n");
    unreachable = Error{ErrorKind::unreachable, "cannot reach it", "start it"};
    const auto outcome = run({"doctor", "--agent-config", config});
    EXPECT_EQ(outcome.code, 1);
    EXPECT_THAT(outcome.out, HasSubstr("start it"));
    controller_known = false;
    EXPECT_THAT(run({"doctor", "--agent-config", config}).out, testing::Not(HasSubstr("controller")));
    unreachable.reset();
    controller_known = true;
    EXPECT_THAT(run({"doctor", "-o", "json"}).out, HasSubstr("ctl:7443 answers"));
}

TEST_F(Doctor, SaysWhatTheKernelsConfigurationLacks)
{
    EXPECT_EQ(find("kernel config").grade, Grade::unseen);
    const std::string all = "CONFIG_BPF_SYSCALL=y\nCONFIG_CGROUP_BPF=y\nCONFIG_INET=y\nCONFIG_DEBUG_INFO_BTF=y\n"
                            "CONFIG_NET_CLS_ACT=y\nCONFIG_BPF_JIT=y\nCONFIG_INET_DIAG=m\n";
    utsname kernel{};
    ASSERT_EQ(::uname(&kernel), 0);
    put("usr/lib/modules/" + std::string(kernel.release) + "/config", all + "CONFIG_INET_DIAG_DESTROY=y\n");
    EXPECT_EQ(find("kernel config").grade, Grade::good) << find("kernel config").what;
    put("proc/config.gz", all + "CONFIG_INET_DIAG_DESTROY=y\n");
    EXPECT_EQ(find("kernel config").grade, Grade::good) << find("kernel config").what;
    put("proc/config.gz", all + "# CONFIG_INET_DIAG_DESTROY is not set\n");
    EXPECT_EQ(find("kernel config").grade, Grade::warning);
    EXPECT_THAT(find("kernel config").what, HasSubstr("CONFIG_INET_DIAG_DESTROY is not set"));
    put("proc/config.gz", "CONFIG_INET=y\n");
    EXPECT_EQ(find("kernel config").grade, Grade::bad);
}

TEST_F(Doctor, TellsHybridFromUnifiedAndWhatLsmsSay)
{
    put("proc/self/mounts", "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n");
    EXPECT_THAT(find("cgroup v2").what, HasSubstr("hybrid"));
    EXPECT_EQ(find("LSM").grade, Grade::unseen);
    put("sys/kernel/security/lsm", "lockdown,capability,bpf\n");
    put("sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    EXPECT_EQ(find("LSM").grade, Grade::good);
    put("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    EXPECT_EQ(find("LSM").grade, Grade::bad);
}

TEST_F(Doctor, FindsPacketFiltersThatRefuse)
{
    EXPECT_EQ(find_in(check_conflicts(paths()), "nftables").grade, Grade::unseen);
    programs["nft"] = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; policy accept;\n"
                      "\t\ttcp dport 22 accept # drop\n\t}\n}\n";
    EXPECT_EQ(find_in(check_conflicts(paths()), "nftables").grade, Grade::good);
    programs["nft"] = "table inet filter {\n\tchain input {\n\t\ttype filter hook input priority 0; policy drop;\n"
                      "\t\tct state invalid drop\n\t\ttcp dport 9 counter reject\n\t}\n}\n";
    const auto found = find_in(check_conflicts(paths()), "nftables");
    EXPECT_EQ(found.grade, Grade::warning);
    EXPECT_THAT(found.what, HasSubstr("2 rules and 1 chain policies"));
    put("proc/net/ip_tables_names", "filter\n");
    programs["iptables-legacy-save"] = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -j REJECT\nCOMMIT\n";
    EXPECT_THAT(find_in(check_conflicts(paths()), "iptables").what, HasSubstr("1 rules and 1 chain policies"));
}

TEST_F(Doctor, FindsRulesOfIptablesWhereThereIsNoNft)
{
    programs["iptables-nft-save"] = "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n";
    programs["ip6tables-nft-save"] = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
    EXPECT_THAT(find_in(check_conflicts(paths()), "nftables").what, HasSubstr("0 rules and 1 chain policies"));
    exit_code = 1; // a program that fails has listed nothing
    EXPECT_EQ(find_in(check_conflicts(paths()), "nftables").grade, Grade::unseen);
}

TEST_F(Doctor, FindsOtherProgramsAndAgents)
{
    EXPECT_EQ(judge_programs(std::nullopt).grade, Grade::unseen);
    EXPECT_EQ(judge_programs({{{BPF_PROG_TYPE_SK_LOOKUP, "bh_sk_lookup"},
                               {BPF_PROG_TYPE_CGROUP_SKB, "sd_fw_egress"},
                               {BPF_PROG_TYPE_TRACEPOINT, "trace"}}})
                  .grade,
              Grade::good);
    const auto found = judge_programs({{{BPF_PROG_TYPE_XDP, "balancer"}}});
    EXPECT_EQ(found.grade, Grade::warning);
    EXPECT_THAT(found.what, HasSubstr("balancer (XDP)"));
    put("proc/77/comm", "cilium-agent\n");
    EXPECT_THAT(find_in(check_conflicts(paths()), "other agents").what, HasSubstr("cilium-agent"));
}

TEST_F(Doctor, LooksAtTheStateFolder)
{
    EXPECT_EQ(find_in(agent_files(), "state folder").grade, Grade::unseen);
    put("var/lib/bulkhead/policy.pb", "x");
    ::chmod(state().c_str(), 0755);
    EXPECT_THAT(find_in(agent_files(), "state folder").mend, HasSubstr("chmod 0700"));
    ::chmod(state().c_str(), 0700);
    EXPECT_EQ(find_in(agent_files(), "state folder").grade, Grade::good);
    EXPECT_EQ(find_in(agent_files(), "clock steps").grade, Grade::good);
    EXPECT_EQ(find_in(agent_files(std::chrono::hours(-1)), "clock steps").grade, Grade::warning);
    put("var/lib/bulkhead/policy.pb.damaged", "x");
    EXPECT_THAT(find_in(agent_files(), "state folder").what, HasSubstr("policy.pb.damaged"));
}

TEST_F(Doctor, LooksAtTheConfigurationAndWhereItPoints)
{
    put("etc/bulkhead/agent.yaml", "state_dir: /elsewhere\ncontroller: ctl:7443\n");
    put("elsewhere/x", "x");
    EXPECT_THAT(find_in(agent_files(), "state folder").what, HasSubstr("/elsewhere"));
    EXPECT_THAT(find_in(agent_files(), "certificate").what, HasSubstr("not enrolled"));
    put("etc/bulkhead/agent.yaml", "state_dir: [\n");
    EXPECT_EQ(find_in(agent_files(), "configuration").grade, Grade::bad);
}

TEST_F(Doctor, AsksTheAgentWhetherItAcceptsItsConfiguration)
{
    if (::geteuid() != 0)
        GTEST_SKIP() << "needs root: only root is let into all that the configuration names";
    put("etc/bulkhead/agent.yaml", "contoller: ctl:7443\n");
    EXPECT_EQ(find_in(agent_files(), "configuration").grade, Grade::good); // nobody to ask
    programs["bulkheadd"] = "";
    EXPECT_EQ(find_in(agent_files(), "configuration").grade, Grade::good);
    exit_code = 3;
    EXPECT_EQ(find_in(agent_files(), "configuration").grade, Grade::bad);
    EXPECT_THAT(find_in(agent_files(), "configuration").mend, HasSubstr("bulkheadd --check"));
}

TEST_F(Doctor, WarnsOfTokensThatOthersCanRead)
{
    put("etc/bulkhead/agent.yaml", "controller: ctl:7443\njoin_file: /etc/token\n");
    const auto tokens = [this] {
        std::string text;
        for (const auto& finding : agent_files())
            text += finding.check == "join token" ? finding.what + "\n" : "";
        return text;
    };
    EXPECT_EQ(tokens(), "");
    for (const char* path : {"etc/token", "etc/bulkhead/agent.env"}) {
        put(path, "x");
        ::chmod((root() + "/" + path).c_str(), 0640);
    }
    EXPECT_THAT(tokens(),
                testing::AllOf(HasSubstr("/etc/token is open"), HasSubstr("/etc/bulkhead/agent.env is open")));
    ::chmod((root() + "/etc/token").c_str(), 0600);
    EXPECT_THAT(tokens(), testing::Not(HasSubstr("/etc/token")));
}

TEST_F(Doctor, LooksAtTheOwnerOfTheStateFolderAndAtWhatWasSetAsideOfIt)
{
    put("var/lib/bulkhead/x", "x");
    ::chmod(state().c_str(), 0700);
    put("var/lib/bulkhead.damaged", "x");
    EXPECT_THAT(find_in(agent_files(), "state folder").what, HasSubstr("bulkhead.damaged"));
    if (::chown(state().c_str(), 1, 1) != 0)
        GTEST_SKIP() << "needs root: chown(2)";
    EXPECT_EQ(find_in(agent_files(), "state folder").grade, Grade::bad);
    EXPECT_THAT(find_in(agent_files(), "state folder").mend, HasSubstr("chown"));
}

TEST_F(Doctor, LooksAtTheAgeOfTheCertificateAndAtWhoMayReadTheKey)
{
    const auto pair = self_signed(12);
    put("var/lib/bulkhead/agent.pem", pair.key + pair.certificate);
    ::chmod(state("/agent.pem").c_str(), 0600);
    EXPECT_EQ(find_in(agent_files(), "key").grade, Grade::good);
    EXPECT_EQ(find_in(agent_files(), "certificate").grade, Grade::good);
    EXPECT_EQ(find_in(agent_files(std::chrono::hours(24 * 11)), "certificate").grade, Grade::warning);
    EXPECT_EQ(find_in(agent_files(std::chrono::hours(24 * 13)), "certificate").grade, Grade::bad);
    EXPECT_THAT(find_in(agent_files(std::chrono::hours(-24)), "certificate").what, HasSubstr("the clock is behind"));
    ::chmod(state("/agent.pem").c_str(), 0640);
    EXPECT_EQ(find_in(agent_files(), "key").grade, Grade::bad);
    put("var/lib/bulkhead/agent.pem", "rubbish");
    EXPECT_EQ(find_in(agent_files(), "certificate").grade, Grade::bad);
}

TEST_F(Doctor, AsksForTheControllersNameAndPort)
{
    EXPECT_EQ(check_reachable("no-such-host.invalid:7443").front().grade, Grade::bad);
    const auto refused = check_reachable("127.0.0.1:1");
    EXPECT_EQ(refused.front().grade, Grade::good);
    EXPECT_THAT(refused.back().what, HasSubstr("refused"));
}

TEST_F(Doctor, SaysWhatTheAgentSaysOfItself)
{
    controller_known = false;
    agent.status.set_enforcing(true);
    agent.status.set_policy_version(7);
    agent.status.set_state_dir(root());
    agent.status.add_warnings("listeners: 14000 of 16384");
    const auto outcome = run({"doctor"});
    EXPECT_THAT(outcome.out, HasSubstr("enforces policy version 7"));
    EXPECT_THAT(outcome.out, HasSubstr("14000 of 16384"));
    EXPECT_NE(outcome.code, 0);
}

TEST_F(Doctor, AnAgentThatDoesNotAnswerIsToldWithWhatGoesOn)
{
    unreachable = Error{ErrorKind::unreachable, "cannot reach the agent", ""};
    controller_known = false;
    const auto config = write("agent.yaml", "state_dir: " + root() + "\npin_dir: " + root() + "/pins\n");
    EXPECT_THAT(run({"doctor", "--agent-config", config}).out, HasSubstr("nothing of it is pinned"));
    put("pins/host/control", "");
    const auto outcome = run({"doctor", "--agent-config", config});
    EXPECT_THAT(outcome.out, HasSubstr("goes on enforcing its last policy"));
    EXPECT_EQ(outcome.code, 1);
}

} // namespace
} // namespace bulkhead::cli
