// SPDX-License-Identifier: Apache-2.0
// Work for scripts/bench: a client and a server, each in a network namespace and a cgroup, both on one CPU.
#include "common/core/unique_fd.h"
#include "tests/bench/go_first.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace bulkhead::bench {
namespace {

constexpr const char* usage =
    "usage: bench_traffic METRIC SECONDS CPU CLIENT_NETNS CLIENT_CGROUP SERVER_NETNS SERVER_CGROUP ADDRESS PORT\n"
    "\n"
    "  METRIC  crr         short TCP connections: connect, one byte each way, close\n"
    "          rr          round trips of one byte on one TCP connection\n"
    "          urr         round trips of one byte by UDP; the client's socket is connected\n"
    "          urr-sendto  the same from a socket that is not connected\n"
    "          upps        UDP datagrams of one byte, one way, in bursts of 64 that are acknowledged\n"
    "          upps-sendto the same from a socket that is not connected\n"
    "\n"
    "Prints {\"count\", \"seconds\", \"share\"}: share is the part of the CPU that client and server got.\n";

constexpr auto warm_up = std::chrono::milliseconds(100);
constexpr int burst = 64;

[[noreturn]] void die(const std::string& what)
{
    std::fprintf(stderr, "bench_traffic: %s: %s\n", what.c_str(), std::strerror(errno));
    std::_Exit(1);
}

struct Options {
    std::string_view metric;
    double seconds = 0;
    int cpu = 0;
    struct Place {
        const char* netns;
        const char* cgroup;
    } client{}, server{};
    sockaddr_storage address{};
    socklen_t address_size = 0;

    [[nodiscard]] bool tcp() const { return metric == "crr" || metric == "rr"; }
    [[nodiscard]] const sockaddr* to() const
    {
        return static_cast<const sockaddr*>(static_cast<const void*>(&address));
    }
};

void enter(const Options::Place& place, int cpu)
{
    const UniqueFd procs(::open((std::string(place.cgroup) + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (!procs || ::write(procs.get(), "0", 1) != 1)
        die(std::string("enter ") + place.cgroup);
    const UniqueFd netns(::open(place.netns, O_RDONLY | O_CLOEXEC));
    if (!netns || ::setns(netns.get(), CLONE_NEWNET) != 0)
        die(std::string("enter ") + place.netns);
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(static_cast<std::size_t>(cpu), &cpus);
    if (::sched_setaffinity(0, sizeof(cpus), &cpus) != 0)
        die("stay on one CPU");
}

UniqueFd open_socket(const Options& options)
{
    UniqueFd fd(::socket(options.address.ss_family, (options.tcp() ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0));
    if (!fd)
        die("socket");
    return fd;
}

void set_option(const UniqueFd& fd, int level, int name, int value)
{
    if (::setsockopt(fd.get(), level, name, &value, sizeof(value)) != 0)
        die("setsockopt");
}

void read_byte(int fd)
{
    char byte = 0;
    if (::recv(fd, &byte, 1, 0) != 1)
        die("recv");
}

void write_byte(int fd)
{
    if (::send(fd, "x", 1, MSG_NOSIGNAL) != 1)
        die("send");
}

// ---- the server's side: until it is killed

void serve_connections(const UniqueFd& listener, bool short_ones)
{
    while (true) {
        const UniqueFd connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!connection)
            die("accept");
        if (!short_ones)
            set_option(connection, IPPROTO_TCP, TCP_NODELAY, 1);
        char byte = 0;
        while (::recv(connection.get(), &byte, 1, 0) == 1)
            write_byte(connection.get());
    }
}

void serve_datagrams(const UniqueFd& socket, bool bursts)
{
    sockaddr_storage from{};
    auto* peer = static_cast<sockaddr*>(static_cast<void*>(&from));
    char byte = 0;
    for (int received = 1;; ++received) {
        socklen_t size = sizeof(from);
        if (::recvfrom(socket.get(), &byte, 1, 0, peer, &size) < 0)
            die("recvfrom");
        // The last of a burst is marked, so that a lost datagram costs no more than its burst.
        if ((!bursts || byte == '!') && ::sendto(socket.get(), &byte, 1, 0, peer, size) < 0)
            die("answer");
    }
}

[[noreturn]] void serve(const Options& options, int ready)
{
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    enter(options.server, options.cpu);
    const UniqueFd socket = open_socket(options);
    set_option(socket, SOL_SOCKET, SO_REUSEADDR, 1);
    if (!options.tcp())
        set_option(socket, SOL_SOCKET, SO_RCVBUF, 1 << 20);
    if (::bind(socket.get(), options.to(), options.address_size) != 0)
        die("bind");
    if (options.tcp() && ::listen(socket.get(), 128) != 0)
        die("listen");
    if (::write(ready, "r", 1) != 1)
        die("say that the server is ready");
    if (options.tcp())
        serve_connections(socket, options.metric == "crr");
    else
        serve_datagrams(socket, options.metric.starts_with("upps"));
    std::_Exit(0);
}

// ---- the client's side

class Client {
public:
    explicit Client(const Options& options) : options_(options), sendto_(options.metric.ends_with("-sendto"))
    {
        if (options_.metric != "crr")
            socket_ = make();
        set_patience();
    }

    // Does the unit of work once; returns how much that counts.
    std::uint64_t once()
    {
        if (options_.metric == "crr")
            return connection();
        if (options_.metric.starts_with("upps"))
            return one_burst();
        return round_trip();
    }

private:
    UniqueFd make()
    {
        UniqueFd fd = open_socket(options_);
        if (!sendto_ && ::connect(fd.get(), options_.to(), options_.address_size) != 0)
            die("connect");
        if (options_.metric == "rr")
            set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        return fd;
    }

    void set_patience()
    {
        const timeval patience{0, 200'000};
        if (socket_ && ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0)
            die("setsockopt");
    }

    void send(char byte)
    {
        const ssize_t sent = sendto_ ? ::sendto(socket_.get(), &byte, 1, 0, options_.to(), options_.address_size)
                                     : ::send(socket_.get(), &byte, 1, MSG_NOSIGNAL);
        if (sent != 1)
            die("send");
    }

    std::uint64_t connection()
    {
        const UniqueFd fd = make();
        write_byte(fd.get());
        read_byte(fd.get());
        return 1;
    }

    std::uint64_t round_trip()
    {
        send('x');
        return answered() ? 1 : 0;
    }

    std::uint64_t one_burst()
    {
        for (int i = 1; i < burst; ++i)
            send('x');
        send('!');
        return answered() ? burst : 0;
    }

    // False: nothing came in time, which among datagrams may happen.
    bool answered()
    {
        char byte = 0;
        const ssize_t got = ::recv(socket_.get(), &byte, 1, 0);
        if (got == 1)
            return true;
        if (options_.tcp() || errno != EAGAIN)
            die("no answer");
        return false;
    }

    const Options& options_;
    bool sendto_;
    UniqueFd socket_;
};

double cpu_seconds(clockid_t clock)
{
    timespec now{};
    return ::clock_gettime(clock, &now) == 0 ? static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9
                                             : 0;
}

void measure(const Options& options, clockid_t server_clock)
{
    using Clock = std::chrono::steady_clock;
    Client client(options);
    for (const auto until = Clock::now() + warm_up; Clock::now() < until;)
        client.once();

    const auto cpu = [&] { return cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) + cpu_seconds(server_clock); };
    const double cpu_before = cpu();
    const auto begin = Clock::now();
    const auto end =
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(options.seconds));
    std::uint64_t count = 0;
    auto now = begin;
    while (now < end) {
        for (int i = 0; i < 8; ++i)
            count += client.once();
        now = Clock::now();
    }
    const double seconds = std::chrono::duration<double>(now - begin).count();
    std::printf("{\"count\": %llu, \"seconds\": %.6f, \"share\": %.3f}\n", static_cast<unsigned long long>(count),
                seconds, (cpu() - cpu_before) / seconds);
}

void read_address(Options& options, const char* address, const char* port)
{
    const auto number = static_cast<in_port_t>(std::atoi(port));
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    if (::inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(number);
        std::memcpy(&options.address, &v4, sizeof(v4));
        options.address_size = sizeof(v4);
    } else if (::inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(number);
        std::memcpy(&options.address, &v6, sizeof(v6));
        options.address_size = sizeof(v6);
    } else {
        errno = EINVAL;
        die(address);
    }
}

int run(const Options& options)
{
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    go_first();
    std::array<int, 2> ready{};
    if (::pipe(ready.data()) != 0)
        die("pipe");
    const pid_t server = ::fork();
    if (server < 0)
        die("fork");
    if (server == 0)
        serve(options, ready[1]);
    ::close(ready[1]);
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1)
        return 1; // the server has said why
    enter(options.client, options.cpu);
    clockid_t server_clock = 0;
    if (::clock_getcpuclockid(server, &server_clock) != 0)
        die("find the server's clock");
    measure(options, server_clock);
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    return 0;
}

} // namespace
} // namespace bulkhead::bench

int main(int argc, char** argv)
{
    static constexpr std::array<std::string_view, 6> metrics = {"crr",        "rr",   "urr",
                                                                "urr-sendto", "upps", "upps-sendto"};
    bulkhead::bench::Options options;
    bool known = false;
    for (const auto metric : metrics)
        known = known || (argc == 10 && metric == argv[1]);
    if (!known) {
        std::fputs(bulkhead::bench::usage, stderr);
        return 2;
    }
    options.metric = argv[1];
    options.seconds = std::atof(argv[2]);
    options.cpu = std::atoi(argv[3]);
    options.client = {argv[4], argv[5]};
    options.server = {argv[6], argv[7]};
    bulkhead::bench::read_address(options, argv[8], argv[9]);
    return bulkhead::bench::run(options);
}
