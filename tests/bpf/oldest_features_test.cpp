// SPDX-License-Identifier: Apache-2.0
// The programs as they are loaded where the kernel has nothing that they can do without (Linux 5.10), on this one.
#include "tests/bpf/fixture.h"

#include <gmock/gmock.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <netinet/in.h>

#include <cerrno>
#include <filesystem>

namespace bulkhead::test {
namespace {

class OldestFeatures : public BpfTest {
protected:
    [[nodiscard]] agent::DatapathOptions options(const std::string& instance = "test") const override
    {
        auto options = BpfTest::options(instance);
        options.only_oldest_features = true;
        options.guard.attach = true;
        options.ingress.always = true;
        return options;
    }
};

// Of the program that is behind a pinned link, in the kernel.
std::vector<std::string> global_functions_with_pointers(const std::string& pin)
{
    const UniqueFd link(bpf_obj_get(pin.c_str()));
    bpf_link_info info{};
    __u32 size = sizeof(info);
    if (!link || bpf_obj_get_info_by_fd(link.get(), &info, &size) != 0)
        return {"no link at " + pin};
    const UniqueFd program(bpf_prog_get_fd_by_id(info.prog_id));
    bpf_prog_info about{};
    size = sizeof(about);
    if (!program || bpf_obj_get_info_by_fd(program.get(), &about, &size) != 0)
        return {"no program of " + pin};
    const std::unique_ptr<btf, decltype(&btf__free)> types(btf__load_from_kernel_by_id(about.btf_id), btf__free);
    if (!types)
        return {"no types of " + pin};
    std::vector<std::string> found;
    for (__u32 id = 1; id < btf__type_cnt(types.get()); ++id) {
        const btf_type* type = btf__type_by_id(types.get(), id);
        if (!btf_is_func(type) || btf_vlen(type) != BTF_FUNC_GLOBAL)
            continue;
        const btf_type* prototype = btf__type_by_id(types.get(), type->type);
        bool takes_pointer = false, is_program = btf_vlen(prototype) == 1; // given its context
        for (__u16 i = 0; i < btf_vlen(prototype); ++i)
            takes_pointer |= btf_is_ptr(btf__type_by_id(types.get(), btf_params(prototype)[i].type));
        if (takes_pointer && !is_program)
            found.emplace_back(btf__name_by_offset(types.get(), type->name_off));
    }
    return found;
}

// Before Linux 5.12 the verifier takes no such function that it is to prove by itself.
TEST_F(OldestFeatures, NoFunctionWithPointersIsProvenByItself)
{
    std::size_t links = 0;
    for (const auto& pin : std::filesystem::directory_iterator(agent::pin_folder(options()) + "/links")) {
        EXPECT_THAT(global_functions_with_pointers(pin.path()), testing::IsEmpty()) << pin.path();
        ++links;
    }
    EXPECT_GT(links, 10U);
}

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
