// SPDX-License-Identifier: Apache-2.0
#include "cli/command_tree.h"
#include "cli/host/agent_checks.h"
#include "cli/host/conflicts.h"
#include "cli/host/host_checks.h"
#include "cli_session.h"

#include <linux/bpf.h>
#include <set>
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
                    commands.push_back(argv);
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
    // Of each "bulkheadctl ..." in a text: its commands and options are there.
    static void expect_commands(const std::string& text)
    {
        const CommandTree tree;
        const std::string program = "bulkheadctl ";
        for (auto at = text.find(program); at != std::string::npos; at = text.find(program, at + 1)) {
            const auto end = std::min(text.find_first_of("',;:)", at), text.size());
            std::istringstream words(text.substr(at + program.size(), end - at - program.size()));
            const CLI::App* command = &tree.app;
            for (std::string word; words >> word;) {
                const auto found =
                    command->get_subcommands([&](const CLI::App* one) { return one->get_name() == word; });
                if (!found.empty())
                    command = found.front();
                else if (word.starts_with("-"))
                    EXPECT_NE(tree.app.get_option_no_throw(word), nullptr) << text;
                else
                    EXPECT_TRUE(command->get_subcommands({}).empty()) << word << " of: " << text;
            }
        }
    }
    std::map<std::string, std::string> programs;
    std::vector<std::vector<std::string>> commands; // that were run
    int exit_code = 0;                              // of all of them
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

TEST_F(Doctor, FindsRefusalsHoweverNftWritesThem)
{
    const auto judge = [this](const std::string& rule) {
        programs["nft"] = "table inet filter {\n\tchain input {\n\t\t" + rule + "\n\t}\n}\n";
        return find_in(check_conflicts(paths()), "nftables");
    };
    for (const char* rule :
         {"tcp dport vmap { 22 : accept, 23 : drop }", "tcp dport vmap { 23 : drop, 22 : accept }",
          "elements = { 10.0.0.1 : drop, 10.0.0.2 : accept }", "elements = { 10.0.0.1 : drop,",
          "log prefix \"door #5: \" drop comment \"x # y\"", "tcp dport { 1, 2 } reject with tcp reset", "reject",
          "ct state invalid drop # handle 7", "type filter hook input priority filter; policy drop;", "queue to 3",
          "udp dport 53 queue flags bypass to 1-3", "counter xt target \"NFQUEUE\""})
        EXPECT_EQ(judge(rule).grade, Grade::warning) << rule;
    for (const char* rule :
         {"tcp dport 22 accept comment \"drop\"", "log prefix \"now reject \" accept", "iifname \"drop\" accept",
          "comment \"policy # drop\"", "elements = { 1.2.3.4 comment \"reject, drop\" }",
          "tcp dport 80 redirect to :3128", "meta l4proto tcp tproxy ip to 127.0.0.1:3129 accept", "accept # drop",
          "type nat hook prerouting priority dstnat; policy accept;", "jump drop", "log group 0 queue-threshold 20"})
        EXPECT_EQ(judge(rule).grade, Grade::good) << rule;
    EXPECT_THAT(judge("log prefix \"policy\" drop").what, HasSubstr("1 rules and 0 chain policies"));
    // A map is one rule, over however many lines its elements go.
    EXPECT_THAT(judge("elements = { 1-3 : drop, 5 comment \"}\" : accept,\n\t\t\t     9 : drop }\n\t\tdrop").what,
                HasSubstr("2 rules and 0 chain policies"));
}

TEST_F(Doctor, FindsRefusalsOfIptablesOutsideOfQuotes)
{
    programs["ip6tables-nft-save"] = "";
    const auto judge = [this](const std::string& rule) {
        programs["iptables-nft-save"] = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT " + rule + "\nCOMMIT\n";
        return find_in(check_conflicts(paths()), "nftables").grade;
    };
    for (const char* rule : {"-j DROP", "-p tcp -j REJECT --reject-with tcp-reset", "-j NFQUEUE --queue-num 0",
                             "-m comment --comment \"say \\\"no\\\"\" -j DROP"})
        EXPECT_EQ(judge(rule), Grade::warning) << rule;
    for (const char* rule : {"-m comment --comment \"not -j DROP\" -j ACCEPT", "-j DROP_LOG", "-j ACCEPT"})
        EXPECT_EQ(judge(rule), Grade::good) << rule;
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

TEST_F(Doctor, TakesTheFlagsOfTheUnitOverTheFile)
{
    put("etc/bulkhead/agent.yaml", "state_dir: /elsewhere\ncontroller: old:7443\njoin_file: /etc/token\n");
    put("etc/bulkhead/agent.env",
        "# BULKHEAD_OPTIONS=--state-dir /no\nBULKHEAD_JOIN=x\nBULKHEAD_OPTIONS=\"--state-dir "
        "'/var/my state' --label app=x \\\n --socket run/other.sock --controller=new:7443\"\n");
    auto place = find_agent(paths(), "");
    EXPECT_EQ(place.state_dir, "/var/my state");
    EXPECT_EQ(place.controller, "new:7443");
    EXPECT_EQ(place.join_file, "/etc/token");
    EXPECT_EQ(place.socket, "/run/other.sock");
    // A folder of policies comes instead of the file's controller.
    put("etc/bulkhead/agent.env", "BULKHEAD_OPTIONS=--policy-dir=/etc/bulkhead/policy --state-dir \"/a b\"\n");
    place = find_agent(paths(), "");
    EXPECT_EQ(place.controller, "");
    EXPECT_EQ(place.state_dir, "/a b");
    EXPECT_EQ(find_in(agent_files(), "policy folder").grade, Grade::bad);
    put("etc/bulkhead/policy/one.yaml", "");
    EXPECT_EQ(find_in(agent_files(), "policy folder").grade, Grade::good);
    // It names another file; one that was asked for comes before it.
    put("etc/bulkhead/agent.env", "BULKHEAD_OPTIONS='--config /etc/other.yaml'");
    put("etc/other.yaml", "state_dir: /third\n");
    EXPECT_EQ(find_agent(paths(), "").state_dir, "/third");
    EXPECT_EQ(find_agent(paths(), "").config, "/etc/other.yaml");
    EXPECT_EQ(find_agent(paths(), "/etc/bulkhead/agent.yaml").state_dir, "/elsewhere");
    std::filesystem::remove(root() + "/etc/other.yaml");
    EXPECT_THAT(find_in(agent_files(), "configuration").mend, HasSubstr("--config /etc/other.yaml"));
    std::filesystem::remove(root() + "/etc/bulkhead/agent.env");
    std::filesystem::create_directories(root() + "/etc/bulkhead/agent.env");
    EXPECT_EQ(find_in(agent_files(), "configuration").grade, Grade::unseen);
}

TEST_F(Doctor, AsksTheAgentWhereItsFlagsSayThatItIs)
{
    const auto config = write("agent.yaml", "state_dir: " + root() + "\nsocket: /run/by-file.sock\n");
    run({"doctor", "--agent-config", config});
    EXPECT_EQ(agent_socket, "/run/by-file.sock");
    write("agent.env", "BULKHEAD_OPTIONS=--socket /run/by-flag.sock\n");
    run({"doctor", "--agent-config", config});
    EXPECT_EQ(agent_socket, "/run/by-flag.sock");
    // What runs counts more than what a file says.
    write("agent.env", "BULKHEAD_OPTIONS='--controller 127.0.0.1:1'\n");
    agent.status.set_source("folder " + root());
    EXPECT_THAT(run({"doctor", "--agent-config", config}).out,
                testing::AllOf(HasSubstr("policy folder"), testing::Not(HasSubstr("127.0.0.1:1"))));
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
    put("etc/bulkhead/agent.env", "BULKHEAD_OPTIONS=--contoller=ctl:7443 --config=/etc/other.yaml\n");
    EXPECT_THAT(find_in(agent_files(), "configuration").what, HasSubstr("/etc/other.yaml"));
    std::filesystem::rename(root() + "/etc/bulkhead/agent.yaml", root() + "/etc/other.yaml");
    EXPECT_THAT(find_in(agent_files(), "configuration").mend,
                HasSubstr("--config /etc/other.yaml, with BULKHEAD_OPTIONS of /etc/bulkhead/agent.env"));
    EXPECT_THAT(commands.back(), testing::ElementsAre("bulkheadd", "--check", "--config", root() + "/etc/other.yaml",
                                                      "--contoller=ctl:7443"));
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

TEST_F(Doctor, HasAMendOfItsOwnForEachWarningOfTheAgent)
{
    controller_known = false;
    agent.status.set_refusal("no");
    agent.status.set_source("controller ctl.invalid:7443");
    agent.status.add_tampering()->set_what("bh_connect4");
    for (const char* warning :
         {"programs of another version enforce, until the next policy: 0.0.9",
          "the state folder cannot be used, so new policies, records and certificates are not kept: mkdir: no room",
          "this host is not enrolled at a controller (mend: make a token)",
          "/var/lib/bulkhead/policy.pb: its checksum does not match; set aside as /var/lib/bulkhead/policy.pb.damaged",
          "/var/lib/bulkhead/policy.pb: used, though its signature cannot be verified: no ca.pem",
          "/var/lib/bulkhead/quarantine.pb: its contents are malformed; set aside as x",
          "listeners: 14000 of 16384 in use", "udp_in: 60000 of 65536 in use", "denials_even: 14000 of 16384 in use",
          "flow_ring: 9 of 10 in use", "fragments: 14000 of 16384 in use", "of a later version"})
        agent.status.add_warnings(warning);
    std::set<std::string> mends;
    for (const auto& finding : run({"doctor", "-o", "json"}).json()) {
        const auto mend = finding["mend"].get<std::string>();
        if (finding["check"] == "agent") {
            EXPECT_TRUE(mends.insert(mend).second) << finding;
        }
        EXPECT_THAT(mend, testing::Not(HasSubstr("docs/"))); // an installed host has none
        expect_commands(mend);
    }
    EXPECT_TRUE(mends.contains("see /usr/share/doc/bulkhead-agent/troubleshooting.md.gz"));
    agent.status.set_source("folder /etc/policy");
    EXPECT_THAT(run({"doctor"}).out, HasSubstr("put a policy into /etc/policy"));
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
