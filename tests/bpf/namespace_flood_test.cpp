// SPDX-License-Identifier: Apache-2.0
// What others can make the agent do for network namespaces: it takes milliseconds at a time, and users take turns.
#include "agent/datapath/holder_search.h"
#include "agent/datapath/namespaces.h"
#include "common/core/clock.h"
#include "tests/bpf/container.h"
#include "tests/bpf/fixture.h"
#include "tests/harness/temp_dir.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <vector>

namespace bulkhead::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

// A copy of this process, which does `work` in the enforced cgroup and then only is there.
class Copy {
public:
    Copy(const Netns& netns, const Cgroup& cgroup, const std::function<void()>& work)
    {
        int ready[2]{};
        EXPECT_EQ(::pipe(ready), 0);
        const UniqueFd reader(ready[0]);
        UniqueFd writer(ready[1]);
        run_in(netns, cgroup, [&] {
            pid_ = ::fork();
            if (pid_ != 0)
                return;
            work();
            (void)::prctl(PR_SET_PDEATHSIG, SIGKILL); // of no use before: it ends with a change of the user
            (void)!::write(writer.get(), "x", 1);
            while (true)
                (void)::pause();
        });
        writer.reset();
        char one = 0;
        EXPECT_EQ(::read(reader.get(), &one, 1), 1);
    }
    ~Copy()
    {
        (void)::kill(pid_, SIGKILL);
        (void)::waitpid(pid_, nullptr, 0);
    }
    Copy(const Copy&) = delete;
    Copy& operator=(const Copy&) = delete;
    [[nodiscard]] int pid() const { return pid_; }

private:
    pid_t pid_ = -1;
};

class NamespaceFlood : public BpfTest {
protected:
    static constexpr std::uint32_t hostile = 1000, honest = 1001, unknown = 1002; // users
    static constexpr auto short_time = 5s; // of a slow and busy machine; without bounds it is a minute

    static void expect_short(const std::function<void()>& work)
    {
        const auto begun = steady_clock::now();
        work();
        EXPECT_LT(steady_clock::now() - begun, short_time);
    }
    // A socket of this process in a namespace that nothing else keeps.
    agent::NamespaceHint lonely(std::uint32_t user)
    {
        const Netns netns;
        run_in(netns, world_->enforced, [&] { sockets_.push_back(bound(SOCK_DGRAM, {"0.0.0.0", 53})); });
        const auto pid = static_cast<std::uint32_t>(::getpid());
        return {netns.inode(), pid, pid, user};
    }
    std::vector<agent::NamespaceHint> told()
    {
        std::vector<agent::NamespaceHint> hints;
        for (const auto& event : drain())
            if (event.type == BH_EVENT_NAMESPACE)
                hints.push_back({event.netns, event.subject.pid, event.subject.tid,
                                 agent::user_behind_process(event.subject.pid, unknown)});
        return hints;
    }
    void open_sockets(std::size_t number)
    {
        for (std::size_t i = 0; i < number; ++i)
            sockets_.push_back(make_socket(AF_INET, SOCK_DGRAM));
    }
    // How many namespaces came by these hints and in the rounds after them.
    std::size_t follow_to_the_end(std::vector<agent::NamespaceHint> hints)
    {
        std::size_t came = 0;
        bool unfinished = true;
        for (rounds_ = 0; unfinished && rounds_ < 1000; ++rounds_) {
            expect_short([&] {
                const auto change = datapath_->follow_hints(hints);
                came += change.came.size();
                unfinished = change.unfinished;
            });
            hints.clear();
        }
        EXPECT_FALSE(unfinished);
        return came;
    }
    [[nodiscard]] bool walk_shows(const UniqueFd& socket) const
    {
        const auto sockets = datapath_->walk_sockets().value();
        return std::any_of(sockets.begin(), sockets.end(),
                           [&](const auto& one) { return one.socket.cookie == cookie_of(socket); });
    }
    std::vector<UniqueFd> sockets_;
    std::size_t rounds_ = 0;
};

TEST_F(NamespaceFlood, AProcessWithManyDescriptorsIsGoneThroughInSlices)
{
    open_sockets(15000);
    std::vector<agent::NamespaceHint> hints;
    for (int i = 0; i < 50; ++i)
        hints.push_back(lonely(hostile));
    EXPECT_EQ(follow_to_the_end(hints), 50U) << "nothing is left out";
    EXPECT_GT(rounds_, 3U) << "4,096 descriptors in each";
    // From now on it is known where the sockets are.
    expect_short([&] { EXPECT_TRUE(walk_shows(sockets_.back())); });
    expect_short([&] { EXPECT_FALSE(datapath_->follow_namespaces().unfinished); });
    sockets_.resize(15000);
    expect_short([&] { (void)datapath_->follow_namespaces(); });
}

TEST_F(NamespaceFlood, ASocketThatMovesToAnotherDescriptorIsFoundAgain)
{
    const auto hint = lonely(honest);
    EXPECT_EQ(follow_to_the_end({hint}), 1U);
    const UniqueFd moved(::fcntl(sockets_.back().get(), F_DUPFD_CLOEXEC, 1000));
    sockets_.clear();
    datapath_->judged_newcomers({hint.inode});
    EXPECT_EQ(follow_to_the_end({}), 0U);
    EXPECT_FALSE(walk_shows(moved));
    (void)datapath_->follow_namespaces();
    EXPECT_TRUE(walk_shows(moved));
}

TEST_F(NamespaceFlood, NoUserWaitsForTheProcessesOfAnother)
{
    open_sockets(500);
    std::vector<std::unique_ptr<Copy>> copies;
    agent::HolderSearch search;
    for (int i = 0; i < 40; ++i) {
        copies.push_back(std::make_unique<Copy>(world_->wire.guarded, world_->enforced, [] {}));
        ASSERT_TRUE(search.want(1, {copies.back()->pid(), 0, -1, hostile})); // there is no such namespace
    }
    sockets_.clear();
    const auto hint = lonely(honest);
    ASSERT_TRUE(search.want(hint.inode, {static_cast<int>(hint.pid), 0, -1, honest}));
    agent::Slice slice(2000, 10s);
    std::vector<std::uint32_t> found;
    search.go_on(slice, [&](std::uint32_t inode, const agent::NamespaceHolder& holder) {
        found.push_back(inode);
        EXPECT_TRUE(agent::open_namespace(inode, holder));
    });
    EXPECT_EQ(found, std::vector{hint.inode}) << "of 20,000 descriptors";
    EXPECT_FALSE(search.idle());
    agent::Slice rest(1 << 20, 60s);
    search.go_on(rest, [](std::uint32_t, const agent::NamespaceHolder&) { ADD_FAILURE(); });
    EXPECT_TRUE(search.idle());
}

TEST_F(NamespaceFlood, WhatIsLookedForIsBoundedForEachUser)
{
    agent::HolderSearch search;
    const agent::NamespaceHolder holder{::getpid(), 0, -1, hostile};
    for (std::uint32_t inode = 1; inode <= agent::HolderSearch::at_once; ++inode)
        ASSERT_TRUE(search.want(inode, holder));
    EXPECT_TRUE(search.want(1, holder)) << "is looked for already";
    EXPECT_FALSE(search.want(1U << 20, holder));
    EXPECT_TRUE(search.want(1U << 20, {::getpid(), 0, -1, honest}));
}

// One more than a user gets, in a user namespace of its own.
constexpr std::size_t many_namespaces = agent::Namespaces::of_one_user + 1;
void make_many_namespaces(std::uint32_t user)
{
    if (::setresgid(user, user, user) != 0 || ::setresuid(user, user, user) != 0 || ::unshare(CLONE_NEWUSER) != 0)
        ::_exit(1);
    for (std::size_t i = 0; i < many_namespaces; ++i)
        if (::unshare(CLONE_NEWNET) != 0 || bound(SOCK_DGRAM, {"0.0.0.0", 5353}).release() < 0)
            ::_exit(2);
}

TEST_F(NamespaceFlood, OneUserDoesNotTakeAllPlaces)
{
    const Copy user(world_->wire.guarded, world_->enforced, [] { make_many_namespaces(hostile); });
    const auto hints = told();
    ASSERT_EQ(hints.size(), many_namespaces);
    EXPECT_EQ(hints[0].user, hostile) << "who made the user namespace";
    EXPECT_EQ(follow_to_the_end(hints), agent::Namespaces::of_one_user);
    const auto change = datapath_->follow_namespaces();
    ASSERT_TRUE(change.trouble) << "which is not kept quiet";
    EXPECT_EQ(change.trouble->message.substr(0, 53), "1 network namespaces of workloads are not followed: 1");
    EXPECT_NE(change.trouble->message.find("user 1000"), std::string::npos);
    const Container container(world_->enforced);
    EXPECT_EQ(datapath_->follow_namespaces().came, std::vector{container.inode()});
}

// He makes them for others: containers with user namespaces of their own.
TEST_F(NamespaceFlood, RootIsNoUserWhoGetsAShare)
{
    const Copy runtime(world_->wire.guarded, world_->enforced, [] { make_many_namespaces(0); });
    const auto hints = told();
    ASSERT_EQ(hints.size(), many_namespaces);
    EXPECT_EQ(hints[0].user, unknown);
    EXPECT_EQ(follow_to_the_end(hints), many_namespaces);
}

TEST_F(NamespaceFlood, ATableFullOfWhatWasToldLeavesRoomForWhatIsFollowed)
{
    const UniqueFd map(bpf_obj_get((options().pin_dir + "/test/maps/bh_namespaces").c_str()));
    ASSERT_TRUE(map);
    bh_namespace row{};
    row.told_ns = static_cast<std::uint64_t>(system_clock().monotonic().count());
    std::uint32_t inode = 1;
    while (bpf_map_update_elem(map.get(), &inode, &row, BPF_ANY) == 0)
        ++inode;
    ASSERT_GT(inode, 1000U);
    const Container container(world_->enforced);
    const auto change = datapath_->follow_namespaces();
    EXPECT_FALSE(change.trouble) << change.trouble->message;
    EXPECT_EQ(change.came, std::vector{container.inode()});
}

void add_addresses(const Netns& netns, int net, int count)
{
    const TempDir dir;
    std::string lines = "link set lo up\n";
    for (int i = 0; i < count; ++i)
        lines += fmt::format("addr add 10.{}.{}.{}/32 dev lo\n", net, i / 250, 1 + i % 250);
    ip(netns, "-batch " + dir.file("addresses", lines));
}

TEST_F(NamespaceFlood, OneWithMoreAddressesThanAreReadLeavesRoomForTheAddressesOfOthers)
{
    realise(TestPolicy().default_action(outbound, refuse));
    const Container greedy(world_->enforced), other(world_->enforced);
    add_addresses(greedy.netns(), 79, 600);
    add_addresses(other.netns(), 78, 1);
    const auto change = datapath_->follow_namespaces();
    ASSERT_TRUE(change.trouble);
    EXPECT_NE(change.trouble->message.find(std::to_string(greedy.inode())), std::string::npos);
    run_in(other.netns(), world_->enforced, [] { EXPECT_NE(tcp_error({"10.78.0.1", 80}), EPERM); });
}

// Neither for those of namespaces with few, nor for the host's own.
TEST_F(NamespaceFlood, ManyWithManyAddressesLeaveRoomForTheAddressesOfOthers)
{
    realise(TestPolicy().default_action(outbound, refuse));
    std::vector<std::unique_ptr<Container>> greedy;
    for (int i = 0; i < 10; ++i) {
        greedy.push_back(std::make_unique<Container>(world_->enforced));
        add_addresses(greedy.back()->netns(), 80 + i, 500);
    }
    const Container other(world_->enforced);
    add_addresses(other.netns(), 78, 1);
    ip(world_->wire.guarded, "addr add 10.76.0.1/32 dev bh0");
    std::set<std::uint32_t> came;
    std::optional<Error> trouble;
    // A round asks as many as it has time for.
    for (int i = 0; i < 100 && (came.size() <= greedy.size() || !trouble); ++i) {
        auto change = datapath_->follow_namespaces();
        came.insert(change.came.begin(), change.came.end());
        trouble = std::move(change.trouble);
    }
    ASSERT_TRUE(trouble);
    EXPECT_NE(trouble->message.find("addresses of 4 network namespaces are not known"), std::string::npos)
        << trouble->message;
    ASSERT_TRUE(datapath_->follow_interfaces());
    run_in(other.netns(), world_->enforced, [] { EXPECT_NE(tcp_error({"10.78.0.1", 80}), EPERM); });
    guarded([] { EXPECT_NE(tcp_error({"10.76.0.1", 80}), EPERM); });
    datapath_->judged_newcomers(came);
    greedy.clear();
    for (int i = 0; trouble && i < 100; ++i) {
        std::this_thread::sleep_for(50ms); // a worker of the kernel ends them, when it gets a turn
        trouble = datapath_->follow_namespaces().trouble;
    }
    EXPECT_FALSE(trouble) << trouble->message;
}

} // namespace
} // namespace bulkhead::test
