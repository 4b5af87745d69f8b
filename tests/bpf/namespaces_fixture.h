// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/namespace_finder.h"
#include "tests/bpf/container.h"
#include "tests/bpf/fixture.h"

#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace bulkhead::test {

class Namespaces : public BpfTest {
protected:
    void join(const Container& container) const { container.join(world_->wire.peer); }
    void inside(const Container& container, const std::function<void()>& work) const
    {
        run_in(container.netns(), world_->enforced, work);
    }
    // A connection to the container's port, from this address of the peer.
    [[nodiscard]] UniqueFd connected_from(const char* address, std::uint16_t port, int& error) const
    {
        UniqueFd socket;
        peer([&] {
            socket = bound(SOCK_STREAM, {address, 0});
            error = connect_error(socket, {"10.78.0.1", port});
        });
        return socket;
    }
    [[nodiscard]] int error_from(const char* address, std::uint16_t port) const
    {
        int error = -1;
        (void)connected_from(address, port, error);
        return error;
    }
    [[nodiscard]] std::vector<std::uint32_t> follow(std::vector<agent::NamespaceHint> hints = {}) const
    {
        auto change = hints.empty() ? datapath_->follow_namespaces() : datapath_->follow_hints(hints);
        EXPECT_FALSE(change.trouble) << change.trouble->message;
        for (int i = 0; change.unfinished && change.came.size() < hints.size() && i < 100; ++i) { // a busy machine
            auto more = datapath_->follow_hints({});
            change.came.insert(change.came.end(), more.came.begin(), more.came.end());
            change.unfinished = more.unfinished;
        }
        return change.came;
    }
    [[nodiscard]] std::uint64_t use_of(const std::string& map) const
    {
        for (const auto& use : datapath_->map_use())
            if (use.name == map)
                return use.entries;
        return ~0ULL;
    }
    [[nodiscard]] std::string pin_of(std::uint32_t inode) const
    {
        return options().pin_dir + "/test/links/sk_lookup_" + std::to_string(inode);
    }
    [[nodiscard]] bool ends(std::uint32_t inode) const // the kernel takes its time
    {
        for (int i = 0; i < 100; ++i) {
            (void)datapath_->follow_namespaces();
            if (!std::filesystem::exists(pin_of(inode)))
                return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
        return false;
    }
    void allow_only_10_78_0_2()
    {
        realise(TestPolicy().default_action(inbound, refuse).allow(inbound, "10.78.0.2", "tcp/80"));
    }
    // From 10.78.0.3, in a container that nothing of ours guards yet.
    struct Accepted {
        UniqueFd server, client, end;
    };
    [[nodiscard]] Accepted accepted_too_early(const Container& container) const
    {
        Accepted early;
        int error = -1;
        join(container);
        inside(container, [&] { early.server = listening({"0.0.0.0", 80}); });
        early.client = connected_from("10.78.0.3", 80, error);
        EXPECT_EQ(error, 0) << "nothing of ours stands there yet";
        early.end = accepted(early.server);
        return early;
    }
    std::optional<agent::NamespaceHint> hint_for(std::uint32_t inode)
    {
        const auto event =
            wait_for([inode](const bh_event& e) { return e.type == BH_EVENT_NAMESPACE && e.netns == inode; });
        if (!event)
            return std::nullopt;
        return agent::NamespaceHint{inode, event->subject.pid, event->subject.tid};
    }
};

} // namespace bulkhead::test
