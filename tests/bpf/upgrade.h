// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "tests/bpf/counting_processes.h"
#include "tests/bpf/fixture.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <vector>

namespace bulkhead::test {

using namespace std::chrono_literals;

// A process that knocks on a denied port until it is told to stop.
class Knocker {
public:
    Knocker(const Netns& netns, const Cgroup& cgroup, Address to, int refusal)
    {
        process_.start(netns, cgroup, [&](Counts& counts) {
            const int error = tcp_error(to);
            ++counts.tries;
            if (error != refusal)
                counts.wrong = error == 0 ? -1 : error;
            ::usleep(500);
        });
    }
    // Until it has knocked again some times since now.
    void knock_on() const
    {
        const int before = process_.counts().tries;
        for (int i = 0; i < 3000 && process_.counts().tries < before + 5; ++i)
            ::usleep(10'000);
    }
    // 0: every answer was a refusal.
    int stop()
    {
        process_.stop();
        return process_.counts().tries == 0 ? -2 : process_.counts().wrong.load();
    }

private:
    struct Counts {
        std::atomic<int> tries, wrong;
    };
    CountingProcesses<Counts> process_;
};

// What is pinned can be made another version's.
class Upgrade : public BpfTest {
protected:
    [[nodiscard]] static TestPolicy policy()
    {
        return TestPolicy()
            .default_action(outbound, refuse)
            .default_action(inbound, refuse)
            .allow(outbound, "10.77.0.2", "tcp/80")
            .allow(outbound, "10.77.0.2", "udp/53");
    }
    [[nodiscard]] std::string pin(const std::string& name) const { return options().pin_dir + "/test/" + name; }
    void other_size() const
    {
        if (!std::filesystem::exists(pin("maps/bh_gate")))
            return; // cut off between two folders
        ASSERT_EQ(::unlink(pin("maps/bh_gate").c_str()), 0);
        const UniqueFd odd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "bh_gate", sizeof(__u32), sizeof(__u32), 77, nullptr));
        ASSERT_EQ(bpf_obj_pin(odd.get(), pin("maps/bh_gate").c_str()), 0);
    }
    void other_abi() const
    {
        const UniqueFd control(bpf_obj_get(pin("maps/bh_control").c_str()));
        const __u32 zero = 0;
        bh_control word{};
        ASSERT_EQ(bpf_map_lookup_elem(control.get(), &zero, &word), 0);
        word.abi_version = 1;
        ASSERT_EQ(bpf_map_update_elem(control.get(), &zero, &word, BPF_ANY), 0);
    }
    // As an agent does: in the namespace that it guards, whose sockets are walked.
    void enforce(const TestPolicy& next)
    {
        outsider([&] { realise(next); });
    }
    void reopen()
    {
        auto opened = open(options());
        ASSERT_TRUE(opened) << opened.error().message;
        datapath_ = std::move(*opened);
    }
    [[nodiscard]] int guarded_error(const Address& to) const
    {
        int error = -1;
        guarded([&] { error = tcp_error(to); });
        return error;
    }
    // So that it takes a while to walk them.
    [[nodiscard]] std::vector<UniqueFd> many_sockets() const
    {
        std::vector<UniqueFd> sockets;
        outsider([&] {
            for (int i = 0; i < 15000; ++i)
                sockets.push_back(bound(SOCK_DGRAM, {"127.0.0.1", 0}));
        });
        return sockets;
    }
    // As an agent does, soon after it took over.
    [[nodiscard]] std::uint64_t denials_told()
    {
        std::uint64_t told = 0;
        for (const auto& event : drain())
            told += event.type == BH_EVENT_DENY;
        EXPECT_TRUE(datapath_->take_denials([&](std::span<const bh_denial> denials) {
            for (const auto& denial : denials)
                told += denial.count;
        }));
        return told;
    }
    void expect_nothing_left_over()
    {
        for (int round = 0; round < 2; ++round) {
            (void)denials_told();
            EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
        }
        for (const auto& folder : std::filesystem::directory_iterator(options().pin_dir + "/test"))
            EXPECT_THAT(folder.path().filename().string(), testing::AnyOf("maps", "links"));
    }
    void converse(const UniqueFd& client, const UniqueFd& server) const
    {
        ASSERT_EQ(send_error(client, "still here"), 0);
        EXPECT_EQ(receive(server, 3s).text, "still here");
    }
    [[nodiscard]] std::unique_ptr<Knocker> knock_outbound() const
    {
        return std::make_unique<Knocker>(world_->wire.guarded, world_->enforced, Address("10.77.0.3", 80), EPERM);
    }
    [[nodiscard]] std::unique_ptr<Knocker> knock_inbound() const
    {
        return std::make_unique<Knocker>(world_->wire.peer, world_->elsewhere, Address("10.77.0.1", 8080),
                                         ECONNREFUSED);
    }
    const Address allowed{"10.77.0.2", 80}, denied{"10.77.0.3", 80};
};

} // namespace bulkhead::test
