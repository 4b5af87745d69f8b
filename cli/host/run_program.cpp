// SPDX-License-Identifier: Apache-2.0
#include "cli/host/run_program.h"

#include "common/core/unique_fd.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char** environ;

namespace bulkhead::cli {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds patience{10};
constexpr std::size_t most = 4 << 20;

std::optional<pid_t> spawn(const std::vector<std::string>& argv, int out)
{
    std::vector<char*> words;
    for (const auto& word : argv)
        words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t child = 0;
    int error = ::posix_spawnp(&child, words.front(), &actions, nullptr, words.data(), environ);
    if (error == ENOENT) // su(1), and a user's own shell, leave it out of PATH
        error = ::posix_spawn(&child, ("/usr/sbin/" + argv.front()).c_str(), &actions, nullptr, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    return error == 0 ? std::optional(child) : std::nullopt;
}

// False: the time was over.
bool read_all(int fd, std::string& text)
{
    const auto end = steady_clock::now() + patience;
    char block[65536];
    for (;;) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - steady_clock::now()).count();
        pollfd ready{fd, POLLIN, 0};
        if (left <= 0 || ::poll(&ready, 1, static_cast<int>(left)) == 0)
            return false;
        const auto count = ::read(fd, block, sizeof block);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count == 0;
        text.append(block, static_cast<std::size_t>(count));
        if (text.size() > 2 * most)
            text.erase(0, text.size() - most);
    }
}

} // namespace

std::optional<ProgramEnd> run_program(const std::vector<std::string>& argv)
{
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        return std::nullopt;
    const UniqueFd out(ends[0]);
    UniqueFd in(ends[1]);
    const auto child = spawn(argv, in.get());
    in.reset();
    if (!child)
        return std::nullopt;
    std::string text;
    const bool ended = read_all(out.get(), text);
    if (!ended)
        ::kill(*child, SIGKILL);
    int status = 0;
    while (::waitpid(*child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!ended || !WIFEXITED(status))
        return std::nullopt;
    if (text.size() > most)
        text.erase(0, text.size() - most);
    return ProgramEnd{WEXITSTATUS(status), std::move(text)};
}

} // namespace bulkhead::cli
