// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/failed_starts.h"

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

namespace bulkhead::agent {

namespace {

constexpr unsigned without_pause = 5;
constexpr std::chrono::seconds longest{40};

std::string file_in(const std::string& folder)
{
    return folder + "/failed-starts";
}

} // namespace

std::chrono::seconds pause_after(unsigned failures)
{
    if (failures <= without_pause)
        return {};
    const unsigned doublings = std::min(failures - without_pause, 6U);
    return std::min(std::chrono::seconds(1U << doublings), longest);
}

unsigned count_failed_start(const std::string& folder)
{
    if (folder.empty())
        return 0;
    unsigned before = 0;
    std::ifstream(file_in(folder)) >> before; // 0 where it cannot be read
    std::ofstream(file_in(folder), std::ios::trunc) << before + 1 << '\n';
    return before + 1;
}

void forget_failed_starts(const std::string& folder)
{
    std::error_code ignored;
    if (!folder.empty())
        std::filesystem::remove(file_in(folder), ignored);
}

std::string runtime_folder()
{
    const char* folders = std::getenv("RUNTIME_DIRECTORY");
    const std::string all = folders == nullptr ? "" : folders;
    return all.substr(0, all.find(':'));
}

void wait_for_signal(std::chrono::seconds time)
{
    sigset_t set;
    ::sigemptyset(&set);
    for (const int number : {SIGTERM, SIGINT})
        ::sigaddset(&set, number);
    const timespec limit{time.count(), 0};
    (void)::sigtimedwait(&set, nullptr, &limit);
}

} // namespace bulkhead::agent
