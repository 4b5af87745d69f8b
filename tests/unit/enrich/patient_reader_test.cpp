// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/patient_reader.h"

#include "agent/enrich/proc_files.h"
#include "common/core/clock.h"
#include "common/core/unique_fd.h"
#include "tests/harness/temp_dir.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace bulkhead::test {
namespace {

using agent::PatientReader;
using namespace std::chrono_literals;

// A FIFO that nobody writes to holds up who opens it, as a process holds up who reads its arguments.
class PatientReads : public testing::Test {
protected:
    std::string fifo(const std::string& name)
    {
        auto path = folder_.path() + "/" + name;
        EXPECT_EQ(::mkfifo(path.c_str(), 0600), 0);
        fifos_.push_back(path);
        return path;
    }
    std::string file(const std::string& name, const std::string& text)
    {
        auto path = folder_.path() + "/" + name;
        std::ofstream(path) << text;
        return path;
    }
    void let_go()
    {
        for (const auto& path : fifos_)
            const UniqueFd writer(::open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC));
        for (int i = 0; i < 500 && reader_.held_up() > 0; ++i) {
            for (const auto& path : fifos_)
                const UniqueFd writer(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
            std::this_thread::sleep_for(10ms);
        }
        fifos_.clear();
    }
    void TearDown() override
    {
        let_go();
        EXPECT_EQ(reader_.held_up(), 0U);
    }

    TempDir folder_;
    std::vector<std::string> fifos_;
    PatientReader reader_{system_clock(), 20ms};
};

TEST_F(PatientReads, WhatCanBeRead)
{
    PatientReader reader(system_clock(), 10s); // however busy the machine is
    EXPECT_EQ(reader.read(file("a", "arguments"), 1024, 1), "arguments");
    EXPECT_EQ(reader.read(file("b", "arguments"), 3, 1), "arg");
    EXPECT_EQ(reader.read(folder_.path() + "/none", 1024, 1), "");
    EXPECT_EQ(reader.held_up(), 0U);
}

TEST_F(PatientReads, WhoIsHeldUpIsLeftBehind)
{
    const auto good = file("a", "arguments");
    EXPECT_EQ(reader_.read(fifo("f"), 1024, 1), "");
    EXPECT_EQ(reader_.held_up(), 1U);
    EXPECT_EQ(reader_.read(good, 1024, 1), "arguments");
    let_go();
    EXPECT_EQ(reader_.held_up(), 0U);
    EXPECT_EQ(reader_.read(good, 1024, 1), "arguments");
}

TEST_F(PatientReads, OneUserHoldsUpAFew)
{
    const auto good = file("a", "arguments");
    for (int i = 0; i < 5; ++i)
        EXPECT_EQ(reader_.read(fifo("f" + std::to_string(i)), 1024, 1), "");
    EXPECT_EQ(reader_.held_up(), PatientReader::of_one_user);
    EXPECT_EQ(reader_.read(good, 1024, 1), "") << "nothing of that user";
    EXPECT_EQ(reader_.read(good, 1024, 2), "arguments");
    for (unsigned user = 2; user < 40; ++user)
        (void)reader_.read(fifo("of" + std::to_string(user)), 1024, user);
    EXPECT_EQ(reader_.held_up(), PatientReader::at_most);
    EXPECT_EQ(reader_.read(good, 1024, 1000), "");
}

// Who lets each go after a moment holds up nothing for good.
TEST_F(PatientReads, OneUserIsWaitedForAWhileInAll)
{
    const auto good = file("a", "arguments");
    int waited_for = 0;
    for (int i = 0; i < 50; ++i) {
        const auto path = fifo("f" + std::to_string(i));
        std::thread writer([&path] {
            std::this_thread::sleep_for(10ms);
            const UniqueFd held(::open(path.c_str(), O_RDWR | O_CLOEXEC));
            std::this_thread::sleep_for(1ms);
        });
        const auto begun = std::chrono::steady_clock::now();
        (void)reader_.read(path, 1024, 1);
        waited_for += std::chrono::steady_clock::now() - begun > 5ms;
        writer.join();
    }
    EXPECT_LE(waited_for, PatientReader::for_one_user * 20 / 5);
    EXPECT_EQ(reader_.read(good, 1024, 1), "") << "within ten seconds";
    EXPECT_EQ(reader_.read(good, 1024, 2), "arguments");
}

TEST_F(PatientReads, TheArgumentsOfAProcess)
{
    std::filesystem::create_directory(folder_.path() + "/42");
    const agent::ProcFiles proc(folder_.path());
    file("42/cmdline", std::string("nginx\0-g\0off\0\0", 15));
    EXPECT_EQ(proc.command_line(42, reader_), "nginx -g off");
    EXPECT_EQ(proc.command_line(43, reader_), "");
    std::filesystem::create_directory(folder_.path() + "/44");
    fifo("44/cmdline");
    EXPECT_EQ(proc.command_line(44, reader_), "");
}

} // namespace
} // namespace bulkhead::test
