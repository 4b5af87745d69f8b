// SPDX-License-Identifier: Apache-2.0
// As upgrade_test.cpp, where there are namespaces beside the agent's own; and cut off at any moment.
#include "tests/bpf/container.h"
#include "tests/bpf/stepped_process.h"
#include "tests/bpf/upgrade.h"

#include <algorithm>
#include <thread>
#include <vector>

namespace bulkhead::test {
namespace {

// In a namespace of its own, with a server that nobody may reach.
class UpgradeWithContainer : public Upgrade {
protected:
    void SetUp() override
    {
        Upgrade::SetUp();
        if (!datapath_)
            return;
        container_ = std::make_unique<Container>(world_->enforced);
        container_->join(world_->wire.peer);
        (void)datapath_->follow_namespaces();
        run_in(container_->netns(), world_->enforced, [this] { server_ = listening({"0.0.0.0", 8080}); });
    }
    void TearDown() override
    {
        server_.reset();
        container_.reset();
        Upgrade::TearDown();
    }
    [[nodiscard]] std::unique_ptr<Knocker> knock_at_container() const
    {
        return std::make_unique<Knocker>(world_->wire.peer, world_->elsewhere, Address("10.78.0.1", 8080),
                                         ECONNREFUSED);
    }
    [[nodiscard]] int container_error() const
    {
        int error = -1;
        peer([&] { error = tcp_error({"10.78.0.1", 8080}); });
        return error;
    }
    // By another process, which ends before it changes one more pin or link. How many it has changed.
    int upgrade(int changes, SteppedProcess::Step step = SteppedProcess::Step::any_change)
    {
        return successor()->run(changes, step);
    }
    [[nodiscard]] std::unique_ptr<SteppedProcess> successor() const
    {
        const auto settings = options(); // of this process; another one's are other places
        return std::make_unique<SteppedProcess>([&](const std::function<void()>& begin_counting) {
            auto opened = open(settings);
            if (!opened || !(*opened)->pending_takeover())
                ::_exit(1);
            begin_counting();
            outsider([&] {
                (void)test::realise(**opened, policy());
                (void)(*opened)->follow_namespaces();
                (void)(*opened)->look_for_tampering();
            });
        });
    }
    [[nodiscard]] std::vector<std::uint32_t> link_programs() const
    {
        std::vector<std::uint32_t> ids;
        for (const auto& path : std::filesystem::directory_iterator(pin("links"))) {
            const UniqueFd link(bpf_obj_get(path.path().c_str()));
            bpf_link_info info{};
            __u32 size = sizeof(info);
            EXPECT_EQ(bpf_obj_get_info_by_fd(link.get(), &info, &size), 0);
            ids.push_back(info.prog_id);
        }
        std::sort(ids.begin(), ids.end());
        return ids;
    }
    void take_new_pins_away() const
    {
        std::error_code error;
        for (const auto& one : std::filesystem::directory_iterator(pin("maps-next"), error))
            (void)::unlink(one.path().c_str());
        EXPECT_EQ(::rmdir(pin("maps-next").c_str()), 0);
    }
    void finish() // and make it another version's again
    {
        enforce(policy());
        ASSERT_EQ(datapath_->pending_takeover(), std::nullopt);
        expect_nothing_left_over();
        datapath_.reset();
        other_size();
    }
    [[nodiscard]] int own_error() const
    {
        int error = -1;
        run_in(container_->netns(), world_->enforced, [&] { error = tcp_error({"10.78.0.1", 8080}); });
        return error;
    }
    std::unique_ptr<Container> container_;
    UniqueFd server_;
};

TEST_F(UpgradeWithContainer, TheDoorsOfNamespacesAreHandedOver)
{
    enforce(policy());
    ASSERT_EQ(container_error(), ECONNREFUSED);
    datapath_.reset();
    other_abi();
    const auto knock = knock_at_container();
    reopen();
    EXPECT_THAT(datapath_->follow_namespaces().came, testing::IsEmpty());
    knock->knock_on();
    enforce(policy());
    EXPECT_THAT(datapath_->follow_namespaces().came, testing::IsEmpty()) << "it always had its door";
    knock->knock_on();
    EXPECT_EQ(knock->stop(), 0);
    EXPECT_THAT(datapath_->look_for_tampering(), testing::IsEmpty());
    expect_nothing_left_over();
    datapath_.reset();
    EXPECT_EQ(container_error(), ECONNREFUSED) << "by pins of this version alone";
    reopen();
    enforce(TestPolicy().default_action(inbound, permit));
    EXPECT_EQ(container_error(), 0) << "the old programs are gone";
}

// The doors of the new version act, and nothing else of it does yet.
TEST_F(UpgradeWithContainer, WhatStaysOnTheHostIsNoPeersInItsCourse)
{
    UniqueFd ours;
    guarded([&] { ours = listening({"10.77.0.1", 8081}); });
    ip(container_->netns(), "link set lo up");
    enforce(policy());
    ASSERT_EQ(guarded_error({"10.77.0.1", 8081}), 0);
    ASSERT_EQ(own_error(), 0);
    finish();
    constexpr int doors = 11;
    ASSERT_EQ(upgrade(doors, SteppedProcess::Step::exchange_at_a_link), doors);
    EXPECT_EQ(guarded_error({"10.77.0.1", 8081}), 0);
    EXPECT_EQ(own_error(), 0);
    reopen();
    finish();
}

TEST_F(UpgradeWithContainer, OneThatEndsMeanwhileHoldsNothingUp)
{
    enforce(policy());
    const auto inode = container_->inode();
    datapath_.reset();
    other_abi();
    reopen();
    server_.reset();
    container_->end();
    const std::string pin = options().pin_dir + "/test/links/sk_lookup_" + std::to_string(inode);
    const auto acts = [&] {
        const UniqueFd link(bpf_obj_get(pin.c_str()));
        bpf_link_info info{};
        __u32 size = sizeof(info);
        return link && bpf_obj_get_info_by_fd(link.get(), &info, &size) == 0 && info.netns.netns_ino != 0;
    };
    for (int i = 0; i < 100 && acts(); ++i) // the kernel takes its time
        std::this_thread::sleep_for(50ms);
    ASSERT_FALSE(acts());
    enforce(policy());
    expect_nothing_left_over();
}

// Killed before one change of pins and links after the other.
TEST_F(UpgradeWithContainer, CutOffAtAnyMomentItIsFinishedByTheNextStart)
{
    enforce(policy());
    UniqueFd ours;
    guarded([&] { ours = listening({"10.77.0.1", 8080}); });
    const auto out = knock_outbound(), in = knock_inbound(), at_container = knock_at_container();
    finish();
    const int all = upgrade(1 << 20);
    ASSERT_GT(all, 50) << "ten hooks, a gate, and the maps";
    int again = 0, finished = 0; // what the next start found
    reopen();
    finish();
    const int exchanges_in_all = upgrade(1 << 20, SteppedProcess::Step::exchange_at_a_link);
    ASSERT_GT(exchanges_in_all, 12);
    reopen();
    finish();
    const auto cut_off_after = [&](int changes, SteppedProcess::Step step) {
        ASSERT_EQ(upgrade(changes, step), changes);
        for (const auto* knock : {&out, &in, &at_container})
            (*knock)->knock_on();
        reopen();
        ++(datapath_->pending_takeover() ? again : finished);
        for (const auto* knock : {&out, &in, &at_container})
            (*knock)->knock_on();
        EXPECT_EQ(guarded_error(allowed), ECONNREFUSED) << "it is allowed, and nobody listens";
        finish();
    };
    for (const int changes : {0, all / 2})
        cut_off_after(changes, SteppedProcess::Step::any_change);
    for (int exchanges = 0; exchanges < exchanges_in_all; exchanges += 4)
        cut_off_after(exchanges, SteppedProcess::Step::exchange_at_a_link);
    for (int changes = all - 4; changes <= all; ++changes)
        cut_off_after(changes, SteppedProcess::Step::any_change);
    EXPECT_GT(again, 0);
    EXPECT_GT(finished, 0);
    EXPECT_EQ(out->stop(), 0);
    EXPECT_EQ(in->stop(), 0);
    EXPECT_EQ(at_container->stop(), 0);
}
// A file system that is full or read-only, for one.
TEST_F(UpgradeWithContainer, WherePinsCannotBeMadeTheOthersGoOnEverywhere)
{
    enforce(policy());
    datapath_.reset();
    other_size();
    const UniqueFd any(bpf_map_create(BPF_MAP_TYPE_ARRAY, "in_the_way", 4, 4, 1, nullptr));
    ASSERT_EQ(bpf_obj_pin(any.get(), pin("maps-next").c_str()), 0);
    const auto out = knock_outbound(), at_container = knock_at_container();
    reopen();
    const auto before = link_programs();
    const auto plane = TestPolicy().plane(policy::Plane::active), shadow = TestPolicy().plane(policy::Plane::shadow);
    outsider([&] {
        const auto realised = datapath_->realise({&plane, &shadow, {}, 0, std::nullopt});
        ASSERT_FALSE(realised);
        EXPECT_THAT(realised.error().message, testing::HasSubstr("maps-next"));
    });
    EXPECT_TRUE(datapath_->pending_takeover());
    EXPECT_EQ(link_programs(), before);
    datapath_.reset();
    out->knock_on();
    at_container->knock_on();
    ASSERT_EQ(::unlink(pin("maps-next").c_str()), 0);
    reopen();
    enforce(policy());
    EXPECT_EQ(datapath_->pending_takeover(), std::nullopt);
    datapath_.reset();
    out->knock_on();
    at_container->knock_on();
    EXPECT_EQ(out->stop(), 0);
    EXPECT_EQ(at_container->stop(), 0);
    reopen();
    expect_nothing_left_over();
}

// Root takes the new pins away when the doors are exchanged and the gates are not yet.
TEST_F(UpgradeWithContainer, PinsThatAreTakenAwayInItsCourseAreMadeAgain)
{
    enforce(policy());
    datapath_.reset();
    other_size();
    const auto out = knock_outbound(), at_container = knock_at_container();
    successor()->run_disturbed(SteppedProcess::Step::rename, [&] { take_new_pins_away(); });
    out->knock_on();
    at_container->knock_on();
    reopen();
    EXPECT_EQ(datapath_->pending_takeover(), std::nullopt) << "it was finished";
    EXPECT_EQ(out->stop(), 0);
    EXPECT_EQ(at_container->stop(), 0);
    expect_nothing_left_over();
}

TEST_F(UpgradeWithContainer, WhereTheyCannotBeMadeAgainTheGatesOfTheOthersStay)
{
    enforce(policy());
    datapath_.reset();
    other_size();
    const auto out = knock_outbound(), at_container = knock_at_container();
    const UniqueFd any(bpf_map_create(BPF_MAP_TYPE_ARRAY, "in_the_way", 4, 4, 1, nullptr));
    successor()->run_disturbed(SteppedProcess::Step::rename, [&] {
        take_new_pins_away();
        EXPECT_EQ(bpf_obj_pin(any.get(), pin("maps-next").c_str()), 0);
    });
    out->knock_on();
    at_container->knock_on();
    ASSERT_EQ(::unlink(pin("maps-next").c_str()), 0);
    reopen();
    EXPECT_NE(datapath_->pending_takeover(), std::nullopt) << "it is done again";
    enforce(policy());
    out->knock_on();
    at_container->knock_on();
    EXPECT_EQ(out->stop(), 0);
    EXPECT_EQ(at_container->stop(), 0);
    expect_nothing_left_over();
}

// Nobody who starts reaches the namespace by a process.
TEST_F(UpgradeWithContainer, AddressesOfOneThatOnlyASocketHoldsStayItsOwn)
{
    ip(container_->netns(), "link set lo up");
    enforce(policy());
    (void)datapath_->follow_namespaces();
    datapath_->judged_newcomers({container_->inode()});
    (void)datapath_->follow_namespaces();
    container_->leave();
    ASSERT_EQ(own_error(), 0);
    datapath_.reset();
    reopen();
    (void)datapath_->follow_namespaces();
    EXPECT_EQ(own_error(), 0) << "after a restart";
    datapath_.reset();
    other_size();
    reopen();
    enforce(policy());
    (void)datapath_->follow_namespaces();
    EXPECT_EQ(own_error(), 0) << "after an upgrade";
}

} // namespace
} // namespace bulkhead::test
