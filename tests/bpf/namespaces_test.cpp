// SPDX-License-Identifier: Apache-2.0
#include "agent/sessions/sessions.h"
#include "tests/bpf/namespaces_fixture.h"

#include <bpf/bpf.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <set>
#include <thread>

namespace bulkhead::test {
namespace {

using namespace std::chrono_literals;

TEST_F(Namespaces, OneThatComesLaterIsGuardedLikeTheOwn)
{
    allow_only_10_78_0_2();
    Container container(world_->enforced);
    EXPECT_EQ(follow(), std::vector{container.inode()});
    EXPECT_EQ(follow(), std::vector<std::uint32_t>{}) << "told once";
    join(container);
    UniqueFd server, datagrams, sender;
    inside(container, [&] {
        server = listening({"0.0.0.0", 80});
        datagrams = bound(SOCK_DGRAM, {"0.0.0.0", 53});
    });
    EXPECT_EQ(error_from("10.78.0.2", 80), 0);
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
    const auto denied = wait_for([](const bh_event& event) { return event.type == BH_EVENT_DENY; });
    ASSERT_TRUE(denied);
    EXPECT_EQ(denied->local_port, 80);
    EXPECT_EQ(denied->netns, container.inode());
    EXPECT_EQ(denied->subject.pid, static_cast<__u32>(::getpid())) << "who listens is known";
    peer([&] {
        sender = make_socket(AF_INET, SOCK_DGRAM);
        EXPECT_EQ(send_to_error(sender, {"10.78.0.1", 53}), 0);
    });
    EXPECT_EQ(receive(datagrams).text, "");
    EXPECT_EQ(drained_count([](const bh_event& event) { return event.type == BH_EVENT_NAMESPACE; }), 0U);

    datapath_.reset();
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED) << "enforcement outlives the agent";
    ASSERT_TRUE(agent::detach_datapath(options()).value());
    EXPECT_EQ(error_from("10.78.0.3", 80), 0);
}

TEST_F(Namespaces, WhoHearsInAnUnknownOneIsToldAtOnce)
{
    allow_only_10_78_0_2();
    Container container(world_->enforced);
    join(container);
    UniqueFd server, again;
    inside(container, [&] {
        server = listening({"0.0.0.0", 80});
        again = listening({"0.0.0.0", 81});
    });
    const auto hint = hint_for(container.inode());
    ASSERT_TRUE(hint);
    EXPECT_EQ(hint->pid, static_cast<__u32>(::getpid()));
    EXPECT_EQ(follow({*hint}), std::vector{container.inode()});
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
    EXPECT_EQ(error_from("10.78.0.2", 80), 0);
    EXPECT_EQ(drained_count([](const bh_event& event) { return event.type == BH_EVENT_NAMESPACE; }), 0U)
        << "once a second at most, and never of one that is followed";
}

TEST_F(Namespaces, OneThatHoldsASocketAndNoProcessIsFoundByTheHint)
{
    allow_only_10_78_0_2();
    auto lonely = std::make_unique<Netns>();
    const std::uint32_t inode = lonely->inode();
    UniqueFd server;
    run_in(*lonely, world_->enforced, [&] { server = listening({"0.0.0.0", 80}); });
    const auto hint = hint_for(inode);
    ASSERT_TRUE(hint);
    lonely.reset();
    EXPECT_EQ(follow({*hint}), std::vector{inode});
    const auto sockets = datapath_->walk_sockets().value();
    EXPECT_TRUE(std::any_of(sockets.begin(), sockets.end(), [&](const auto& walked) {
        return walked.socket.netns == inode && walked.socket.cookie == cookie_of(server);
    }));
    server.reset();
    datapath_->judged_newcomers({inode});
    EXPECT_TRUE(ends(inode));
}

TEST_F(Namespaces, WhatWasAcceptedBeforeTheDoorIsJudged)
{
    allow_only_10_78_0_2();
    agent::SessionKeeper keeper(*datapath_, system_clock(), [](const bh_walked_socket&) { return std::nullopt; });
    ASSERT_TRUE(keeper.after_switch({policy::Sessions::Kind::keep, {}}));
    const Container container(world_->enforced);
    const auto forbidden = accepted_too_early(container);
    int error = -1;
    const UniqueFd allowed = connected_from("10.78.0.2", 80, error);
    ASSERT_EQ(error, 0);
    const UniqueFd allowed_end = accepted(forbidden.server);
    const auto established = wait_for(
        [](const bh_event& event) { return event.type == BH_EVENT_ESTABLISHED && event.verdict == BH_DENIED; });
    ASSERT_TRUE(established) << "the record says that it was not to be";
    EXPECT_EQ(established->netns, container.inode());

    const auto ended = keeper.came(follow());
    ASSERT_TRUE(ended) << ended.error().message;
    ASSERT_EQ(ended->size(), 1U);
    EXPECT_EQ((*ended)[0].socket.socket.cookie, cookie_of(forbidden.end));
    EXPECT_EQ((*ended)[0].verdict.subject.pid, static_cast<__u32>(::getpid()));
    EXPECT_EQ(send_error(forbidden.client), ECONNRESET);
    EXPECT_EQ(send_error(allowed, "fine"), 0);
    EXPECT_EQ(receive(allowed_end).text, "fine");
}

// A server that hands its socket on and ends: nobody whom the agent knows is in the namespace then.
TEST_F(Namespaces, WhatWasAcceptedBeforeTheDoorIsJudgedAlsoWhereAllHaveLeft)
{
    allow_only_10_78_0_2();
    agent::SessionKeeper keeper(*datapath_, system_clock(), [](const bh_walked_socket&) { return std::nullopt; });
    ASSERT_TRUE(keeper.after_switch({policy::Sessions::Kind::keep, {}}));
    Container container(world_->enforced);
    auto forbidden = accepted_too_early(container);
    const auto came = follow();
    EXPECT_EQ(came, std::vector{container.inode()});
    container.end();

    const auto ended = keeper.came(came);
    ASSERT_TRUE(ended) << ended.error().message;
    ASSERT_EQ(ended->size(), 1U);
    EXPECT_TRUE((*ended)[0].destroyed);
    EXPECT_EQ(send_error(forbidden.client), ECONNRESET);
    forbidden = {};
    EXPECT_TRUE(ends(container.inode())) << "nothing keeps it any more";
}

TEST_F(Namespaces, AConnectionIsDestroyedAlsoWhereItsNamespaceIsNotTold)
{
    Container container(world_->enforced);
    join(container);
    (void)follow();
    UniqueFd server;
    inside(container, [&] { server = listening({"0.0.0.0", 80}); });
    int error = -1;
    const UniqueFd client = connected_from("10.78.0.3", 80, error);
    ASSERT_EQ(error, 0);
    const UniqueFd end = accepted(server);
    const auto sockets = datapath_->walk_sockets().value();
    for (const auto& walked : sockets) {
        if (walked.socket.cookie != cookie_of(end))
            continue;
        auto socket = walked.socket;
        EXPECT_EQ(socket.netns, container.inode());
        socket.netns = 0;
        ASSERT_TRUE(datapath_->destroy_socket(socket));
    }
    EXPECT_EQ(send_error(client), ECONNRESET);
}

// What came is judged soon and often, and may be one of many.
TEST_F(Namespaces, OneIsWalkedWithoutTheOthers)
{
    const Container one(world_->enforced), other(world_->enforced);
    (void)follow();
    UniqueFd here, there, outside;
    inside(one, [&] { here = listening({"0.0.0.0", 80}); });
    inside(other, [&] { there = listening({"0.0.0.0", 80}); });
    outsider([&] { outside = listening({"0.0.0.0", 80}); });
    const auto sockets = datapath_->walk_sockets_in({one.inode()}).value();
    ASSERT_EQ(sockets.size(), 1U);
    EXPECT_EQ(sockets[0].socket.cookie, cookie_of(here));
    EXPECT_EQ(sockets[0].owner.pid, static_cast<__u32>(::getpid()));
    ASSERT_TRUE(datapath_->adopt_listeners(sockets));
    EXPECT_EQ(use_of("listeners"), 2U) << "where it was not, nothing is gone";
    EXPECT_EQ(datapath_->walk_sockets_in({world_->wire.guarded.inode()}).value().size(), 1U);
}

TEST_F(Namespaces, ServersOlderThanTheProgramsAreAdopted)
{
    datapath_.reset();
    ASSERT_TRUE(agent::detach_datapath(options()));
    Container container(world_->enforced);
    join(container);
    UniqueFd server;
    inside(container, [&] { server = listening({"0.0.0.0", 80}); });
    auto opened = open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    datapath_ = std::move(*opened);
    EXPECT_TRUE(std::filesystem::exists(pin_of(container.inode()))) << "followed from the start";
    EXPECT_EQ(follow(), std::vector<std::uint32_t>{}) << "`sessions:` decides on what was open before the first start";
    allow_only_10_78_0_2();
    ASSERT_TRUE(datapath_->adopt_listeners(datapath_->walk_sockets().value()));
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
    EXPECT_EQ(error_from("10.78.0.2", 80), 0);
}

TEST_F(Namespaces, OneThatEndsLeavesNothing)
{
    auto container = std::make_unique<Container>(world_->enforced);
    (void)follow();
    UniqueFd server;
    inside(*container, [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_TRUE(std::filesystem::exists(pin_of(container->inode())));
    EXPECT_EQ(use_of("namespaces"), 1U);
    EXPECT_EQ(use_of("listeners"), 1U);
    const std::uint32_t inode = container->inode();
    datapath_->judged_newcomers({inode}); // and not kept for that any more
    container->end();
    (void)follow();
    EXPECT_TRUE(std::filesystem::exists(pin_of(inode))) << "its socket lives, and so does it";
    server.reset();
    EXPECT_TRUE(ends(inode));
    EXPECT_EQ(use_of("namespaces"), 0U);
    EXPECT_EQ(use_of("listeners"), 0U);
}

TEST_F(Namespaces, ANewAgentTakesOverWithoutAGap)
{
    allow_only_10_78_0_2();
    Container container(world_->enforced);
    join(container);
    (void)follow();
    UniqueFd server;
    inside(container, [&] { server = listening({"0.0.0.0", 80}); });
    const auto info_of = [&] {
        bpf_link_info info{};
        __u32 size = sizeof(info);
        const UniqueFd link(bpf_obj_get(pin_of(container.inode()).c_str()));
        EXPECT_EQ(bpf_obj_get_info_by_fd(link.get(), &info, &size), 0);
        return info;
    };
    const auto before = info_of();
    datapath_.reset();
    Container meanwhile(world_->enforced);
    auto opened = open(options());
    ASSERT_TRUE(opened) << opened.error().message;
    datapath_ = std::move(*opened);
    const auto after = info_of();
    EXPECT_EQ(after.id, before.id) << "the link was never away";
    EXPECT_NE(after.prog_id, before.prog_id) << "it runs the new agent's program";
    EXPECT_EQ(follow(), std::vector{meanwhile.inode()}) << "nobody has judged what it accepted";
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
    EXPECT_EQ(error_from("10.78.0.2", 80), 0);
    realise(TestPolicy().default_action(inbound, permit));
    EXPECT_EQ(error_from("10.78.0.3", 80), 0);
}

TEST_F(Namespaces, WhatRootTakesAwayIsPutBack)
{
    allow_only_10_78_0_2();
    Container container(world_->enforced);
    join(container);
    (void)follow();
    UniqueFd server;
    inside(container, [&] { server = listening({"0.0.0.0", 80}); });
    const UniqueFd link(bpf_obj_get(pin_of(container.inode()).c_str()));
    ASSERT_EQ(bpf_link_detach(link.get()), 0);
    EXPECT_EQ(error_from("10.78.0.3", 80), 0);
    EXPECT_EQ(follow(), std::vector{container.inode()}) << "to be judged";
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
}

// The kernel gives the inode number of a dead namespace to the next one.
TEST_F(Namespaces, ANumberThatIsGivenAgainIsTold)
{
    auto first = std::make_unique<Container>(world_->enforced);
    const auto follow_and_judge = [&] {
        const auto came = follow();
        datapath_->judged_newcomers({came.begin(), came.end()});
        (void)datapath_->follow_hints({}); // from now on nothing of ours keeps it
    };
    follow_and_judge();
    std::set<std::uint32_t> dead{first->inode()};
    for (int i = 0; i < 20; ++i) {
        first->end();
        std::this_thread::sleep_for(100ms); // until the kernel has freed it
        auto next = std::make_unique<Container>(world_->enforced);
        if (dead.contains(next->inode())) {
            UniqueFd server;
            inside(*next, [&] { server = listening({"0.0.0.0", 80}); });
            const auto hint = hint_for(next->inode());
            ASSERT_TRUE(hint) << "another namespace than the one that is followed";
            EXPECT_EQ(follow({*hint}), std::vector{next->inode()});
            EXPECT_EQ(use_of("listeners"), 1U) << "rows of the new one stay";
            return;
        }
        follow_and_judge();
        dead.insert(next->inode());
        first = std::move(next);
    }
    GTEST_SKIP() << "no number was given twice";
}

TEST_F(Namespaces, ManyComeAndGo)
{
    allow_only_10_78_0_2();
    std::vector<std::unique_ptr<Container>> containers;
    std::vector<std::uint32_t> inodes;
    for (int i = 0; i < 20; ++i) {
        containers.push_back(std::make_unique<Container>(world_->enforced));
        inodes.push_back(containers.back()->inode());
    }
    std::vector<std::uint32_t> came;
    for (int i = 0; i < 100 && came.size() < inodes.size();
         ++i) // a tenth of a second each, and this machine may be slow
        for (const auto inode : follow())
            came.push_back(inode);
    std::sort(inodes.begin(), inodes.end());
    std::sort(came.begin(), came.end());
    EXPECT_EQ(came, inodes);
    EXPECT_EQ(use_of("namespaces"), 20U);
    join(*containers.back());
    UniqueFd server;
    inside(*containers.back(), [&] { server = listening({"0.0.0.0", 80}); });
    EXPECT_EQ(error_from("10.78.0.3", 80), ECONNREFUSED);
    server.reset();
    datapath_->judged_newcomers({inodes.begin(), inodes.end()});
    containers.clear();
    for (const auto inode : inodes)
        EXPECT_TRUE(ends(inode));
    EXPECT_EQ(use_of("namespaces"), 0U);
    EXPECT_EQ(use_of("listeners"), 0U);
}

} // namespace
} // namespace bulkhead::test
