// SPDX-License-Identifier: Apache-2.0
#include "cli/host/bundle.h"
#include "cli/host/run_program.h"
#include "cli_session.h"

#include "common/tls/tls.h"

#include <sys/stat.h>

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class SupportBundle : public CliSession {
protected:
    SupportBundle()
    {
        const auto pair = self_signed();
        key = pair.key;
        token = tls::encode_join_token({"0123456789abcdef0123456789abcdef", std::string(64, 'a')});
        secret = token.substr(16, token.rfind('.') - 16); // in base64
        base = std::filesystem::path(write("marker", "")).parent_path();
        std::filesystem::create_directories(base / "state");
        write("state/agent.pem", pair.key + pair.certificate);
        write("state/join", token + "\n");
        write("log", "starting with --join " + token + "\nkey was:\n" + key + "policy version 3 is in force\n" +
                         "secret again: " + secret + "\n");
        config = write("agent.yaml", "# " + token + "\nstate_dir: " + (base / "state").string() + "\njoin: " + token +
                                         "\nnested: {password: hunter2-hunter2}\nblock_token: |\n  opaque-value-1\n"
                                         "hostname: db-1\n");
        agent.status.set_hostname("db-1");
        agent.status.set_refusal("the key is " + key);
        controller_known = false;
    }
    Outcome bundle(const std::string& file)
    {
        return run({"agent", "support-bundle", "--file", file, "--agent-config", config, "--log", base / "log"});
    }
    // All of its files, with their names.
    std::string unpacked(const std::string& file)
    {
        const auto out = (base / "unpacked").string();
        EXPECT_EQ(std::system(("tar -tzvf " + file + " > " + out + " && tar -xzOf " + file + " >> " + out).c_str()), 0);
        return read(out);
    }

    std::filesystem::path base;
    std::string key, token, secret, config;
};

TEST_F(SupportBundle, HoldsWhatSupportNeedsAndSaysWhatIsMissing)
{
    const auto file = (base / "bundle.tar.gz").string();
    const auto outcome = bundle(file);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    EXPECT_EQ(outcome.out, file + "\n");
    const auto text = unpacked(file);
    for (const char* part :
         {"MANIFEST.txt", "versions.txt", "kernel.txt", "doctor.txt", "agent.yaml", "status.json", "maps.json",
          "state-folder.txt", "log.txt", "policy version 3 is in force", "db-1", "agent.pem"})
        EXPECT_THAT(text, HasSubstr(part));
    EXPECT_THAT(text, HasSubstr("Missing:\n")); // no folder of pins here
    EXPECT_THAT(outcome.err, HasSubstr("not in it: "));
}

TEST_F(SupportBundle, HoldsNoSecretWhereverItStood)
{
    const auto file = (base / "bundle.tar.gz").string();
    ASSERT_EQ(bundle(file).code, 0);
    const auto text = unpacked(file);
    EXPECT_THAT(text, Not(HasSubstr("PRIVATE KEY")));
    std::istringstream lines(key);
    for (std::string line; std::getline(lines, line);) {
        if (line.find("-----") == std::string::npos) {
            EXPECT_THAT(text, Not(HasSubstr(line)));
        }
    }
    EXPECT_THAT(text, Not(HasSubstr(token)));
    EXPECT_THAT(text, Not(HasSubstr(secret)));
    EXPECT_THAT(text, Not(HasSubstr("hunter2")));
    EXPECT_THAT(text, Not(HasSubstr("opaque-value-1")));
}

TEST_F(SupportBundle, IsMadeWhateverTheConfigurationRefersTo)
{
    std::string bomb = "l0: &l0 {x: y}\n";
    for (int i = 1; i < 40; ++i)
        bomb += fmt::format("l{0}: &l{0} [*l{1}, *l{1}, *l{1}]\n", i, i - 1);
    const auto file = (base / "bundle.tar.gz").string();
    const auto of_secret = bomb + "password: *l39\n";
    for (const std::string& text : {std::string("labels: &a {x: *a}\n"), bomb, of_secret, std::string(3000, '[')}) {
        std::filesystem::remove(file);
        write("agent.yaml", "hostname: db-1\n" + text);
        const auto outcome = bundle(file);
        EXPECT_EQ(outcome.code, 0) << outcome.err;
        EXPECT_TRUE(unpacked(file).find("hostname: db-1") != std::string::npos ||
                    outcome.err.find("agent.yaml: left out") != std::string::npos)
            << text.substr(0, 80) << outcome.err;
    }
}

TEST_F(SupportBundle, FollowsReferencesToSecrets)
{
    write("agent.yaml", "labels: {a: &one opaque-value-1, b: &two [opaque-value-2]}\npassword: *one\ntoken: {x: *two}\n"
                        "secret: &three {y: &four opaque-value-3}\nother: [*three, *four]\nname: &name passphrase\n"
                        "*name : opaque-value-4\n? {password: opaque-value-5}\n: z\n");
    const auto file = (base / "bundle.tar.gz").string();
    ASSERT_EQ(bundle(file).code, 0);
    const auto text = unpacked(file);
    EXPECT_THAT(text, HasSubstr("labels:"));
    EXPECT_THAT(text, Not(HasSubstr("opaque-value")));
}

TEST_F(SupportBundle, IsItsOwnersAloneAndOverwritesNothing)
{
    const auto file = (base / "bundle.tar.gz").string();
    ASSERT_EQ(bundle(file).code, 0);
    struct stat found {};
    ASSERT_EQ(::stat(file.c_str(), &found), 0);
    EXPECT_EQ(found.st_mode & 07777U, 0600U);
    const auto before = read(file);
    EXPECT_EQ(bundle(file).code, 5);
    EXPECT_EQ(read(file), before);
    EXPECT_EQ(bundle((base / "no/such/folder/x").string()).code, 1);
}

TEST_F(SupportBundle, IsMadeWithoutAnAgent)
{
    unreachable = Error{ErrorKind::unreachable, "cannot reach the agent", ""};
    const auto file = (base / "bundle.tar.gz").string();
    ASSERT_EQ(bundle(file).code, 0);
    EXPECT_THAT(unpacked(file), HasSubstr("status.json: cannot reach the agent"));
}

TEST_F(SupportBundle, KeepsDocumentsWholeWhateverTheirNamesAre)
{
    auto& table = *agent.maps.add_tables();
    table.set_name("rules");
    table.add_lines("pay/token-api: allow tcp/443");
    (*agent.status.mutable_labels())["secret"] = "squirrel";
    const auto file = (base / "bundle.tar.gz").string();
    ASSERT_EQ(bundle(file).code, 0);
    const auto text = unpacked(file);
    EXPECT_THAT(text, HasSubstr("\"pay/token-api: allow tcp/443\""));
    EXPECT_THAT(text, HasSubstr("\"secret\": \"[removed]\""));
}

TEST_F(SupportBundle, HoldsWhatIsSaidOfAUnitThatHasFailed)
{
    const auto systemctl = write("systemctl", "#!/bin/sh\necho 'Active: failed (Result: exit-code)'\nexit 3\n");
    ::chmod(systemctl.c_str(), 0755);
    const std::string path = std::getenv("PATH");
    ::setenv("PATH", (base.string() + ":" + path).c_str(), 1);
    const auto file = (base / "bundle.tar.gz").string();
    EXPECT_EQ(bundle(file).code, 0);
    ::setenv("PATH", path.c_str(), 1);
    EXPECT_THAT(unpacked(file), HasSubstr("Active: failed"));
}

TEST_F(SupportBundle, HoldsTheEndOfALongLog)
{
    std::ofstream log(base / "log");
    for (int i = 0; i < 100'000; ++i)
        log << "line " << i << " of a log that is longer than what goes into a bundle\n";
    log << "the last line\n" << std::flush;
    const auto file = (base / "bundle.tar.gz").string();
    ASSERT_EQ(bundle(file).code, 0);
    EXPECT_THAT(unpacked(file), HasSubstr("the last line\n"));
}

TEST(BundleFolder, FitsIntoAnArchiveWithTheLongestFile)
{
    constexpr std::size_t room = 99;
    EXPECT_LT((bundle_folder(std::string(64, 'h'), 4'000'000'000) + "/state-folder.txt").size(), room);
    EXPECT_EQ(bundle_folder("web-1", 7), "bulkhead-support-web-1-7");
    EXPECT_EQ(bundle_folder("../x", 7), "bulkhead-support-..-x-7");
}

TEST(RunProgram, TellsHowItEndedAndFindsWhatOnlyRootHasInItsPath)
{
    const auto failed = run_program({"sh", "-c", "echo said; exit 3"});
    ASSERT_TRUE(failed);
    EXPECT_EQ(failed->code, 3);
    EXPECT_EQ(failed->output, "said\n");
    EXPECT_FALSE(run_program({"no-such-program-anywhere"}));
    EXPECT_FALSE(run_program({"sh", "-c", "kill -9 $$"}));
    const auto long_one = run_program({"sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x; echo end"});
    ASSERT_TRUE(long_one);
    EXPECT_EQ(long_one->output.size(), 4U << 20);
    EXPECT_TRUE(long_one->output.ends_with("end\n"));
    const std::string path = std::getenv("PATH");
    ::setenv("PATH", "/nowhere", 1);
    EXPECT_TRUE(run_program({"chroot", "--version"}));
    ::setenv("PATH", path.c_str(), 1);
}

TEST(SecretFilter, LeavesTheRestAlone)
{
    SecretFilter filter;
    filter.learn("bulkhead-join-1.c2VjcmV0LXNlY3JldA.abc");
    EXPECT_EQ(filter.clean("a: b\npath c2VjcmV0LXNlY3JldA end\ntoken=x y\n"),
              "a: b\npath [removed] end\ntoken= [removed]\n");
    EXPECT_EQ(filter.clean("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"),
              "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----");
    filter.learn("-----BEGIN PRIVATE KEY-----\n  QUJDREVGR0g=QUJD  \r\n                \n\t\t\t\t\t\t\t\t\t\t\t\t\t\r\n"
                 "             =\r\n-----END PRIVATE KEY-----\n");
    EXPECT_EQ(filter.clean("a =  b\r\n QUJDREVGR0g=QUJD                 \n"),
              "a =  b\r\n [removed]                 \n");
    EXPECT_EQ(filter.clean("x -----BEGIN EC PRIVATE KEY-----\nAAAA"), "x [removed]");
}

} // namespace
} // namespace bulkhead::cli
