// SPDX-License-Identifier: Apache-2.0
#include "cli_session.h"

#include <array>
#include <cstdio>
#include <memory>

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Completion : public CliSession {
protected:
    // What bash would offer for these words, the last of them unfinished.
    std::string offered(const std::vector<std::string>& words)
    {
        std::string script = "source " + write("completion.bash", run({"completion", "bash"}).out) + "\nCOMP_WORDS=(";
        for (const auto& word : words)
            script += "'" + word + "' ";
        script += ")\nCOMP_CWORD=" + std::to_string(words.size() - 1) + "\n_bulkheadctl\necho \"${COMPREPLY[*]}\"\n";
        const auto command = "bash --norc " + write("ask.bash", script) + " 2>&1";
        const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), ::pclose);
        std::string text;
        std::array<char, 4096> chunk{};
        while (pipe && std::fgets(chunk.data(), chunk.size(), pipe.get()) != nullptr)
            text += chunk.data();
        return text;
    }
};

TEST_F(Completion, BashOffersCommandsOptionsAndValues)
{
    EXPECT_THAT(offered({"bulkheadctl", "vio"}), HasSubstr("violations"));
    EXPECT_THAT(offered({"bulkheadctl", "policy", ""}), HasSubstr("validate"));
    EXPECT_THAT(offered({"bulkheadctl", "policy", ""}), Not(HasSubstr("violations")));
    EXPECT_THAT(offered({"bulkheadctl", "flows", "--in"}), HasSubstr("--input-file"));
    EXPECT_THAT(offered({"bulkheadctl", "flows", "--verdict", "w"}), HasSubstr("would-deny"));
    EXPECT_THAT(offered({"bulkheadctl", "-o", "json", "agent", "token", ""}), HasSubstr("create"));
}

TEST_F(Completion, ZshKnowsTheSameWords)
{
    const auto script = run({"completion", "zsh"}).out;
    EXPECT_THAT(script, testing::StartsWith("#compdef bulkheadctl"));
    for (const char* word : {"violations", "--input-file", "bulkheadctl agent token create", "funcstack"})
        EXPECT_THAT(script, HasSubstr(word));
}

} // namespace
} // namespace bulkhead::cli
