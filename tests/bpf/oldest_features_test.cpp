// SPDX-License-Identifier: Apache-2.0
// The programs as they are loaded where the kernel has nothing that they can do without (Linux 5.10), on this one.
#include "tests/bpf/fixture.h"

#include <netinet/in.h>

#include <cerrno>

namespace bulkhead::test {
namespace {

class OldestFeatures : public BpfTest {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.only_oldest_features = true;
        options.guard.attach = true;
        return options;
    }
};

TEST_F(OldestFeatures, DoorsAndJudgeAgree)
{
    realise(TestPolicy()
                .default_action(outbound, refuse)
                .default_action(inbound, refuse)
                .allow(outbound, "10.77.0.2", "tcp/80")
                .allow(inbound, "fd77::/64", "tcp/8080"));
    UniqueFd ours, v4, v6;
    peer([&] {
        v4 = listening({"10.77.0.2", 80});
        v6 = listening({"fd77::2", 80});
    });
    guarded([&] {
        ours = listening({"::", 8080});
        EXPECT_EQ(tcp_error({"10.77.0.2", 80}), 0);
        EXPECT_EQ(tcp_error({"fd77::2", 80}), EPERM);
    });
    peer([&] {
        EXPECT_EQ(tcp_error({"fd77::1", 8080}), 0);
        EXPECT_EQ(tcp_error({"10.77.0.1", 8080}), ECONNREFUSED);
    });
    std::vector<bh_judge_request> requests(2);
    requests[0].remote = abi_address("10.77.0.2");
    requests[1].remote = abi_address("fd77::2");
    for (auto& request : requests) {
        request.port = 80;
        request.protocol = IPPROTO_TCP;
    }
    ASSERT_TRUE(datapath_->judge(requests));
    EXPECT_EQ(requests[0].verdict, BH_ALLOWED);
    EXPECT_EQ(requests[0].reason, BH_REASON_RULE);
    EXPECT_EQ(requests[1].verdict, BH_DENIED);
    EXPECT_EQ(requests[1].reason, BH_REASON_DEFAULT);
}

TEST_F(OldestFeatures, WalkFindsTheCookiesOfSocketsThatNobodyAskedFor)
{
    UniqueFd udp, udp6, tcp;
    std::vector<agent::WalkedSocket> sockets;
    outsider([&] { // past the doors, which ask
        udp = bound(SOCK_DGRAM, {"10.77.0.1", 5353});
        udp6 = bound(SOCK_DGRAM, {"fd77::1", 5354});
        tcp = listening({"::", 5355});
        sockets = datapath_->walk_sockets().value();
    });
    for (const UniqueFd* socket : {&udp, &udp6, &tcp}) {
        std::size_t found = 0;
        for (const auto& walked : sockets)
            if (walked.socket.local_port == port_of(*socket)) {
                ++found;
                EXPECT_EQ(walked.socket.cookie, cookie_of(*socket));
            }
        EXPECT_EQ(found, 1U);
    }
}

} // namespace
} // namespace bulkhead::test
