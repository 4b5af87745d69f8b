// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/user_names.h"
#include "tests/harness/fake_clock.h"
#include "tests/harness/temp_dir.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace bulkhead::agent {
namespace {

using namespace std::chrono_literals;

// Behind a directory server: users are "farN" with the number N, while it answers at all.
class Directory : public std::enable_shared_from_this<Directory> {
public:
    enum class State { answers, knows_nobody, fails, hangs };

    NameService service()
    {
        return {[self = shared_from_this()](std::uint32_t uid) -> std::optional<std::string> {
                    const auto state = self->asked();
                    if (state == State::fails)
                        return std::nullopt;
                    return state == State::answers ? "far" + std::to_string(uid) : "";
                },
                [self = shared_from_this()](const std::string& user) -> std::optional<std::optional<std::uint32_t>> {
                    const auto state = self->asked();
                    if (state == State::fails)
                        return std::nullopt;
                    if (state == State::knows_nobody || !user.starts_with("far"))
                        return std::optional<std::uint32_t>();
                    return static_cast<std::uint32_t>(std::strtoul(user.c_str() + 3, nullptr, 10));
                }};
    }
    void set(State state)
    {
        const std::lock_guard lock(mutex_);
        state_ = state;
        changed_.notify_all();
    }
    [[nodiscard]] int questions() const { return questions_; }

private:
    State asked()
    {
        std::unique_lock lock(mutex_);
        ++questions_;
        changed_.wait(lock, [this] { return state_ != State::hangs; });
        return state_;
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    State state_ = State::answers;
    std::atomic<int> questions_ = 0;
};

class UserNamesTest : public ::testing::Test {
protected:
    ~UserNamesTest() override { directory->set(Directory::State::answers); }
    // What comes too late is there the next time, or the time after.
    template <typename Get, typename Value>
    static bool becomes(const Get& get, const Value& value)
    {
        for (int i = 0; i < 10'000; ++i, std::this_thread::sleep_for(1ms))
            if (get() == value)
                return true;
        return false;
    }

    test::TempDir folder;
    std::string file =
        folder.file("passwd", "root:x:0:0::/root:/bin/sh\nother:x:0:0::/:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n");
    test::FakeClock clock;
    std::shared_ptr<Directory> directory = std::make_shared<Directory>();
    UserNames users{clock, directory->service(), file};
};

TEST_F(UserNamesTest, OfTheHost)
{
    UserNames of_host(clock);
    EXPECT_EQ(of_host.name_of(0), "root");
    EXPECT_EQ(of_host.uid_of("root"), 0U);
    EXPECT_EQ(of_host.uid_of("1234567"), 1234567U);
    EXPECT_EQ(of_host.uid_of("nobody-has-this-name"), std::nullopt);
    EXPECT_EQ(of_host.uid_of("nobody-has-this-name"), std::nullopt);
    EXPECT_EQ(of_host.uid_of("99999999999"), std::nullopt);
    EXPECT_EQ(of_host.name_of(4000000000), "");
}

TEST_F(UserNamesTest, OfTheFileNeedNoService)
{
    directory->set(Directory::State::hangs);
    EXPECT_EQ(users.name_of(0), "root") << "the first of two";
    EXPECT_EQ(users.uid_of("other"), 0U);
    EXPECT_EQ(users.name_of(1000), "alice");
    EXPECT_EQ(users.uid_of("alice"), 1000U);
    EXPECT_EQ(directory->questions(), 0);
}

TEST_F(UserNamesTest, FollowTheFile)
{
    directory->set(Directory::State::knows_nobody);
    EXPECT_EQ(users.name_of(1000), "alice");
    const auto next =
        folder.file("next", "root:x:0:0::/root:/bin/sh\nbob:x:1001:1000::/:/bin/sh\n+::::::\n-eve::7::::\n");
    std::filesystem::last_write_time(next, std::filesystem::last_write_time(file) + 1s);
    std::filesystem::rename(next, file);
    EXPECT_EQ(users.name_of(1001), "bob");
    EXPECT_EQ(users.name_of(0), "root");
    EXPECT_EQ(users.name_of(7), "") << "no user, but words of nsswitch.conf(5)";
    EXPECT_TRUE(becomes([&] { return users.name_of(1000); }, ""));
    EXPECT_TRUE(becomes([&] { return users.uid_of("alice"); }, std::nullopt));
    std::filesystem::remove(file);
    EXPECT_EQ(users.name_of(1001), "bob") << "it is being replaced";
}

TEST_F(UserNamesTest, OfTheServiceAreKeptForAMinute)
{
    EXPECT_TRUE(becomes([&] { return users.name_of(5000); }, "far5000"));
    EXPECT_TRUE(becomes([&] { return users.uid_of("far5001"); }, 5001U));
    const auto asked = directory->questions();
    directory->set(Directory::State::knows_nobody);
    clock.advance(59s);
    EXPECT_EQ(users.name_of(5000), "far5000");
    EXPECT_EQ(users.uid_of("far5001"), 5001U);
    EXPECT_EQ(directory->questions(), asked);
    clock.advance(1s);
    EXPECT_TRUE(becomes([&] { return users.name_of(5000); }, ""));
    EXPECT_TRUE(becomes([&] { return users.uid_of("far5001"); }, std::nullopt));
}

// Or whoever a rule names would be refused when the directory is away.
TEST_F(UserNamesTest, HoldWhileTheServiceCannotSay)
{
    EXPECT_TRUE(becomes([&] { return users.uid_of("far5001"); }, 5001U));
    for (const auto state : {Directory::State::fails, Directory::State::hangs}) {
        directory->set(state);
        const auto asked = directory->questions();
        clock.advance(1h);
        EXPECT_EQ(users.uid_of("far5001"), 5001U);
        EXPECT_EQ(users.uid_of("far5001"), 5001U);
        EXPECT_EQ(directory->questions(), asked + 1);
    }
    directory->set(Directory::State::knows_nobody);
    EXPECT_TRUE(becomes([&] { return users.uid_of("far5001"); }, std::nullopt));
}

TEST_F(UserNamesTest, AreAskedForAgainAfterAFailure)
{
    directory->set(Directory::State::fails);
    EXPECT_EQ(users.uid_of("far5001"), std::nullopt);
    directory->set(Directory::State::answers);
    clock.advance(4s);
    EXPECT_EQ(users.uid_of("far5001"), std::nullopt);
    EXPECT_EQ(directory->questions(), 1);
    clock.advance(1s);
    EXPECT_TRUE(becomes([&] { return users.uid_of("far5001"); }, 5001U));
}

TEST_F(UserNamesTest, ComeLateFromAServiceThatHangs)
{
    UserNames waiting(system_clock(), directory->service(), file);
    directory->set(Directory::State::hangs);
    for (std::uint32_t uid = 5000; uid < 7000; ++uid) // more than can be asked for, and are waited for
        EXPECT_EQ(waiting.name_of(uid), "");
    EXPECT_EQ(waiting.name_of(1000), "alice");
    EXPECT_LE(directory->questions(), 4) << "so many threads wait";
    directory->set(Directory::State::answers);
    EXPECT_TRUE(becomes([&] { return waiting.name_of(5000); }, "far5000"));
    EXPECT_TRUE(becomes([&] { return waiting.name_of(6999); }, "far6999"));
}

TEST_F(UserNamesTest, MayBeLeftWhileTheServiceHangs)
{
    directory->set(Directory::State::hangs);
    {
        UserNames others(clock, directory->service(), file);
        EXPECT_EQ(others.name_of(5000), "");
    }
    EXPECT_EQ(users.name_of(1000), "alice");
}

} // namespace
} // namespace bulkhead::agent
