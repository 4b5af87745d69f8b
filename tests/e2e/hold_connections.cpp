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

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bulkhead::test {
namespace {

constexpr const char* usage = "usage: hold_connections serve ADDRESS FIRST_PORT PORTS\n"
                              "       hold_connections connect ADDRESS FIRST_PORT PORTS COUNT\n"
                              "\n"
                              "The server echoes what comes, on PORTS ports from FIRST_PORT on; it prints \"ready\" "
                              "and ends with its input. The\n"
                              "client opens COUNT connections, as many to each port, prints \"open\", and answers each "
                              "line of its input: it sends a\n"
                              "byte on every connection that has not ended, and prints for each port {\"port\", "
                              "\"alive\", \"ended\", \"silent\"}, as\n"
                              "one JSON list.\n";

constexpr std::size_t under_way_at_once = 256; // connections that are being opened
constexpr auto patience = std::chrono::seconds(20);
using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& what)
{
    std::fprintf(stderr, "hold_connections: %s: %s\n", what.c_str(), std::strerror(errno));
    std::_Exit(1);
}

void allow_descriptors(std::size_t count)
{
    const rlimit limit{count + 256, count + 256};
    if (::setrlimit(RLIMIT_NOFILE, &limit) != 0)
        die("raise the limit of descriptors");
}

struct Target {
    in_addr address{};
    std::uint16_t first_port = 0;
    std::size_t ports = 0;

    [[nodiscard]] sockaddr_in end(std::size_t port) const
    {
        sockaddr_in end{};
        end.sin_family = AF_INET;
        end.sin_addr = address;
        end.sin_port = htons(static_cast<std::uint16_t>(first_port + port));
        return end;
    }
};

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
    explicit Server(const Target& target)
    {
        allow_descriptors(200'000);
        for (std::size_t i = 0; i < target.ports; ++i) {
            UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
            const int one = 1;
            const sockaddr_in end = target.end(i);
            if (::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
                ::bind(fd.get(), generic(end), sizeof(end)) != 0 || ::listen(fd.get(), 4096) != 0)
                die("listen");
            epoll_.add(fd.get(), EPOLLIN, static_cast<std::uint64_t>(fd.get()));
            is_listener(fd.get(), true);
            fds_.push_back(std::move(fd));
        }
        epoll_.add(STDIN_FILENO, EPOLLIN | EPOLLHUP, STDIN_FILENO);
    }

    void run()
    {
        std::puts("ready");
        std::fflush(stdout);
        while (true)
            for (const auto& event : epoll_.wait(-1)) {
                const int fd = static_cast<int>(event.data.u64);
                if (fd == STDIN_FILENO)
                    std::_Exit(0); // not one close(2) at a time
                if (static_cast<std::size_t>(fd) < listener_.size() && listener_[static_cast<std::size_t>(fd)])
                    accept_all(fd);
                else
                    echo(fd);
            }
    }

private:
    void is_listener(int fd, bool yes)
    {
        const auto index = static_cast<std::size_t>(fd);
        if (listener_.size() <= index)
            listener_.resize(index + 1);
        listener_[index] = yes;
    }

    void accept_all(int listener)
    {
        while (true) {
            UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
            if (!fd)
                return;
            is_listener(fd.get(), false);
            epoll_.add(fd.get(), EPOLLIN, static_cast<std::uint64_t>(fd.release())); // echo() closes it
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
    std::vector<UniqueFd> fds_;
    std::vector<bool> listener_;
};

// ---- the client

class Client {
public:
    Client(const Target& target, std::size_t count) : target_(target), connections_(count) { allow_descriptors(count); }

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
        std::printf("[");
        for (std::size_t port = 0; port < target_.ports; ++port) {
            std::size_t alive = 0, ended = 0, silent = 0;
            for (std::size_t i = port; i < connections_.size(); i += target_.ports)
                ++(connections_[i].ended ? ended : connections_[i].answered ? alive : silent);
            std::printf("%s{\"port\": %zu, \"alive\": %zu, \"ended\": %zu, \"silent\": %zu}", port == 0 ? "" : ", ",
                        target_.first_port + port, alive, ended, silent);
        }
        std::printf("]\n");
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
        const sockaddr_in end = target_.end(i % target_.ports);
        if (!fd || (::connect(fd.get(), generic(end), sizeof(end)) != 0 && errno != EINPROGRESS))
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

    const Target& target_;
    Epoll epoll_;
    std::vector<Connection> connections_;
};

bool read_target(Target& target, char** arguments)
{
    target.first_port = static_cast<std::uint16_t>(std::atoi(arguments[1]));
    target.ports = static_cast<std::size_t>(std::atoi(arguments[2]));
    return ::inet_pton(AF_INET, arguments[0], &target.address) == 1 && target.first_port > 0 && target.ports > 0;
}

} // namespace
} // namespace bulkhead::test

int main(int argc, char** argv)
{
    using namespace bulkhead::test;
    Target target;
    const bool serves = argc == 5 && std::string_view(argv[1]) == "serve";
    const bool connects = argc == 6 && std::string_view(argv[1]) == "connect";
    if ((!serves && !connects) || !read_target(target, argv + 2)) {
        std::fputs(usage, stderr);
        return 2;
    }
    if (serves) {
        Server(target).run();
        return 0;
    }
    Client client(target, static_cast<std::size_t>(std::atoi(argv[5])));
    client.open();
    std::puts("open");
    std::fflush(stdout);
    for (std::string line; std::getline(std::cin, line);) {
        client.check();
        client.report();
    }
    std::_Exit(0);
}
