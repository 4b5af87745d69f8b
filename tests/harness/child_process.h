// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace bulkhead::test {

// A program that runs until stop() or the end of the test. When the constructor returns, exec has happened, and /proc
// shows the new program's command line.
class ChildProcess {
public:
    explicit ChildProcess(std::vector<std::string> arguments)
    {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0)
            throw std::runtime_error("pipe2 failed");
        std::vector<char*> pointers;
        for (auto& argument : arguments)
            pointers.push_back(argument.data());
        pointers.push_back(nullptr);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::execv(pointers[0], pointers.data());
            [[maybe_unused]] const auto told = ::write(ends[1], "!", 1);
            ::_exit(127);
        }
        ::close(ends[1]);
        char failed = 0; // exec closes the pipe
        const bool started = pid_ > 0 && ::read(ends[0], &failed, 1) == 0;
        ::close(ends[0]);
        if (!started) {
            stop();
            throw std::runtime_error("cannot start " + arguments[0]);
        }
        while (!has_command_line() && !has_ended())
            std::this_thread::yield();
    }
    ~ChildProcess() { stop(); }
    ChildProcess(const ChildProcess&) = delete;
    ChildProcess& operator=(const ChildProcess&) = delete;

    [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }

    void stop()
    {
        if (pid_ <= 0)
            return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        pid_ = 0;
    }

private:
    // exec closes descriptors (fs/exec.c, begin_new_exec()) before the new program has its arguments (fs/binfmt_elf.c).
    bool has_command_line() const
    {
        std::ifstream file("/proc/" + std::to_string(pid_) + "/cmdline");
        return file.peek() != std::ifstream::traits_type::eof();
    }

    bool has_ended() const
    {
        siginfo_t ended{};
        return ::waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid != 0;
    }

    pid_t pid_ = 0;
};

} // namespace bulkhead::test
