// SPDX-License-Identifier: Apache-2.0
// Tens of thousands of TCP connections, held open by one client and one server, and asked now and then whether they
// live. For tests; see the usage.
#include "common/core/unique_fd.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::test {
namespace {

constexpr const char* usage =
    "usage: hold_connections serve ADDRESS PORT\n"
    "       hold_connections connect ADDRESS PORT COUNT\n"
    "\n"
    "The server echoes what comes; it prints \"ready\" and ends with its input. The client opens COUNT connections, "
    "prints\n"
    "\"open\", and answers each line of its input: it sends a byte on every connection that has not ended, and prints\n"
    "{\"alive\", \"ended\", \"silent\"}.\n";

constexpr std::size_t under_way_at_once = 256; // connections that are being opened
constexpr auto patience = std::chrono::seconds(20);
using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& what)
{
    std::fprintf(stderr, "hold_connections: %s: %s\n", what.c_str(), std::strerror(errno));
    std::_Exit(1);
}

// As many as may be: the hard limit is not ours to raise everywhere.
void allow_descriptors()
{
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("read the limit of descriptors");
    limit.rlim_cur = limit.rlim_max;
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("raise the limit of descriptors");
}

const sockaddr* generic(const sockaddr_in& end)
{
    return static_cast<const sockaddr*>(static_cast<const void*>(&end));
}

class Epoll {
public:
    Epoll() : fd_(::epoll_create1(EPOLL_CLOEXEC))
    {
        if (!fd_)
            die("epoll");
    }
    void add(int fd, std::uint32_t events, std::uint64_t key) { change(EPOLL_CTL_ADD, fd, events, key); }
    void modify(int fd, std::uint32_t events, std::uint64_t key) { change(EPOLL_CTL_MOD, fd, events, key); }

    // What is ready, within the time.
    std::vector<epoll_event> wait(int milliseconds)
    {
        std::vector<epoll_event> events(512);
        const int count = ::epoll_wait(fd_.get(), events.data(), static_cast<int>(events.size()), milliseconds);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        events.resize(static_cast<std::size_t>(std::max(count, 0)));
        return events;
    }

private:
    void change(int how, int fd, std::uint32_t events, std::uint64_t key)
    {
        epoll_event event{};
        event.events = events;
        event.data.u64 = key;
        if (::epoll_ctl(fd_.get(), how, fd, &event) != 0)
            die("epoll_ctl");
    }
    UniqueFd fd_;
};

// ---- the server

class Server {
public:
    explicit Server(const sockaddr_in& end)
        : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
    {
        const int one = 1;
        if (::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
            ::bind(listener_.get(), generic(end), sizeof(end)) != 0 || ::listen(listener_.get(), 4096) != 0)
            die("listen");
        for (const int fd : {listener_.get(), STDIN_FILENO})
            epoll_.add(fd, EPOLLIN, static_cast<std::uint64_t>(fd));
    }

    [[noreturn]] void run()
    {
        std::puts("ready");
        std::fflush(stdout);
        while (true)
            for (const auto& event : epoll_.wait(-1)) {
                const int fd = static_cast<int>(event.data.u64);
                if (fd == STDIN_FILENO)
                    std::_Exit(0); // not one close(2) at a time
                if (fd == listener_.get())
                    accept_all();
                else
                    echo(fd);
            }
    }

private:
    void accept_all()
    {
        while (true) {
            UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (!fd && errno == EAGAIN)
                return;
            if (!fd)
                die("accept");
            epoll_.add(fd.get(), EPOLLIN, static_cast<std::uint64_t>(fd.get()));
            (void)fd.release(); // echo() closes it
        }
    }

    static void echo(int fd)
    {
        std::array<char, 64> buffer{};
        const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
        if (got > 0 && ::send(fd, buffer.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) == got)
            return;
        if (got < 0 && errno == EAGAIN)
            return;
        ::close(fd);
    }

    Epoll epoll_;
    UniqueFd listener_;
};

// ---- the client

class Client {
public:
    Client(const sockaddr_in& end, std::size_t count) : end_(end), connections_(count) {}

    void open()
    {
        std::size_t next = 0, opened = 0;
        const auto deadline = Clock::now() + 10 * patience;
        while (opened < connections_.size()) {
            for (; next < connections_.size() && next - opened < under_way_at_once; ++next)
                begin(next);
            if (Clock::now() > deadline) {
                errno = ETIMEDOUT;
                die("open connections");
            }
            for (const auto& event : epoll_.wait(1000)) {
                finish(event);
                ++opened;
            }
        }
    }

    void check()
    {
        std::size_t asked = 0;
        for (std::size_t i = 0; i < connections_.size(); ++i) {
            auto& connection = connections_[i];
            connection.answered = false;
            if (connection.ended)
                continue;
            if (::send(connection.fd.get(), "x", 1, MSG_NOSIGNAL) == 1)
                ++asked;
            else
                end(connection);
        }
        const auto deadline = Clock::now() + patience;
        while (asked > 0 && Clock::now() < deadline)
            for (const auto& event : epoll_.wait(100))
                asked -= take(connections_[event.data.u64]) ? 1 : 0;
    }

    void report() const
    {
        std::size_t alive = 0, ended = 0, silent = 0;
        for (const auto& connection : connections_)
            ++(connection.ended ? ended : connection.answered ? alive : silent);
        std::printf("{\"alive\": %zu, \"ended\": %zu, \"silent\": %zu}\n", alive, ended, silent);
        std::fflush(stdout);
    }

private:
    struct Connection {
        UniqueFd fd;
        bool ended = false, answered = false;
    };

    void begin(std::size_t i)
    {
        auto& fd = connections_[i].fd;
        fd = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        if (!fd || (::connect(fd.get(), generic(end_), sizeof(end_)) != 0 && errno != EINPROGRESS))
            die("connect");
        epoll_.add(fd.get(), EPOLLOUT, i);
    }

    void finish(const epoll_event& event)
    {
        auto& fd = connections_[event.data.u64].fd;
        socklen_t size = sizeof(errno);
        int error = 0;
        if (::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
            errno = error;
            die("connect");
        }
        epoll_.modify(fd.get(), EPOLLIN, event.data.u64);
    }

    static void end(Connection& connection)
    {
        connection.ended = true;
        connection.fd.reset();
    }

    // True when a question was answered by a byte or by the end.
    static bool take(Connection& connection)
    {
        if (connection.ended)
            return false;
        char byte = 0;
        const ssize_t got = ::recv(connection.fd.get(), &byte, 1, 0);
        if (got < 0 && errno == EAGAIN)
            return false;
        if (got == 1)
            connection.answered = true;
        else
            end(connection);
        return true;
    }

    sockaddr_in end_;
    Epoll epoll_;
    std::vector<Connection> connections_;
};

bool read_end(sockaddr_in& end, const char* address, const char* port)
{
    end.sin_family = AF_INET;
    end.sin_port = htons(static_cast<std::uint16_t>(std::atoi(port)));
    return ::inet_pton(AF_INET, address, &end.sin_addr) == 1 && end.sin_port != 0;
}

} // namespace
} // namespace bulkhead::test

int main(int argc, char** argv)
{
    using namespace bulkhead::test;
    const bool serves = argc == 4 && std::string_view(argv[1]) == "serve";
    const bool connects = argc == 5 && std::string_view(argv[1]) == "connect";
    sockaddr_in end{};
    if ((!serves && !connects) || !read_end(end, argv[2], argv[3])) {
        std::fputs(usage, stderr);
        return 2;
    }
    allow_descriptors();
    if (serves)
        Server(end).run();
    Client client(end, static_cast<std::size_t>(std::atoi(argv[4])));
    client.open();
    std::puts("open");
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        client.check();
        client.report();
    }
    std::_Exit(0);
}
