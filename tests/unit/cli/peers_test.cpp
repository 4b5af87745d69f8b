// SPDX-License-Identifier: Apache-2.0
#include "cli/peers/peers.h"
#include "cli_session.h"
#include "common/core/unique_fd.h"

#include <netinet/in.h>
#include <sys/socket.h>

namespace bulkhead::cli {
namespace {

using ::testing::HasSubstr;

class RealPeers : public CliSession {
protected:
    std::string context_for(const std::string& controller)
    {
        const auto pair = self_signed();
        return write("context.yaml", "current: c\ncontexts:\n- name: c\n  controller: " + controller + "\n" +
                                         block("ca", pair.certificate) + block("certificate", pair.certificate) +
                                         block("key", pair.key));
    }
};

TEST_F(RealPeers, NobodyListeningIsUnreachableAtOnce)
{
    PeerOptions options;
    options.config = context_for("127.0.0.1:1");
    const auto peers = make_peers(options);
    const auto begin = std::chrono::steady_clock::now();
    const auto stub = peers->admin();
    ASSERT_FALSE(stub);
    EXPECT_EQ(stub.error().kind, ErrorKind::unreachable);
    EXPECT_THAT(stub.error().message, HasSubstr("127.0.0.1:1"));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
}

TEST_F(RealPeers, SilentListenerIsUnreachableWithinAFewSeconds)
{
    // Takes connections and never says a word.
    const UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(listener.get(), generic, size), 0);
    ASSERT_EQ(::listen(listener.get(), 4), 0);
    ASSERT_EQ(::getsockname(listener.get(), generic, &size), 0);
    PeerOptions options;
    options.config = context_for("127.0.0.1:" + std::to_string(ntohs(address.sin_port)));
    const auto begin = std::chrono::steady_clock::now();
    const auto peers = make_peers(options);
    EXPECT_EQ(peers->admin().error().kind, ErrorKind::unreachable);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(12));
}

TEST_F(RealPeers, ASocketOfTheCommandLineCountsMore)
{
    PeerOptions options;
    const auto found = make_peers(options);
    found->agent_listens_at("");
    EXPECT_EQ(found->agent_name(), "agent at /run/bulkhead/agent.sock");
    found->agent_listens_at("/run/other.sock");
    EXPECT_EQ(found->agent_name(), "agent at /run/other.sock");
    options.socket = "/run/given.sock";
    const auto given = make_peers(options);
    given->agent_listens_at("/run/other.sock");
    EXPECT_EQ(given->agent_name(), "agent at /run/given.sock");
}

TEST_F(RealPeers, MissingSocketSaysWhichAndAsksForTheAgent)
{
    PeerOptions options;
    options.socket = "/nonexistent/agent.sock";
    const auto peers = make_peers(options);
    const auto agent_stub = peers->agent();
    ASSERT_FALSE(agent_stub);
    EXPECT_EQ(agent_stub.error().kind, ErrorKind::unreachable);
    EXPECT_THAT(agent_stub.error().message, HasSubstr("/nonexistent/agent.sock"));
    EXPECT_THAT(agent_stub.error().mend, HasSubstr("bulkheadd"));
}

TEST_F(RealPeers, ContextIsNeededBeforeTheNetwork)
{
    PeerOptions options;
    options.config = "/nonexistent";
    EXPECT_EQ(make_peers(options)->admin().error().kind, ErrorKind::invalid);
}

} // namespace
} // namespace bulkhead::cli
