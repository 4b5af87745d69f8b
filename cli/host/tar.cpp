// SPDX-License-Identifier: Apache-2.0
#include "cli/host/tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace bulkhead::cli {
namespace {

constexpr std::size_t block = 512;

// Offsets of pax(1), "ustar Interchange Format".
constexpr std::size_t name_at = 0, name_size = 100, mode_at = 100, uid_at = 108, gid_at = 116, size_at = 124,
                      time_at = 136, sum_at = 148, sum_size = 8, type_at = 156, magic_at = 257, user_at = 265,
                      group_at = 297;

void put(std::string& header, std::size_t at, std::string_view text)
{
    std::copy(text.begin(), text.end(), header.begin() + static_cast<std::ptrdiff_t>(at));
}

} // namespace

void Tar::add(std::string_view name, std::string_view content)
{
    std::string header(block, '\0');
    put(header, name_at, name.substr(0, name_size - 1));
    put(header, mode_at, "0000600");
    put(header, uid_at, "0000000");
    put(header, gid_at, "0000000");
    put(header, size_at, fmt::format("{:011o}", content.size()));
    put(header, time_at, fmt::format("{:011o}", std::max<std::int64_t>(time_, 0)));
    put(header, type_at, "0");
    put(header, magic_at, std::string_view("ustar\00000", 8));
    put(header, user_at, "root");
    put(header, group_at, "root");
    put(header, sum_at, std::string(sum_size, ' ')); // counts as blanks
    const auto sum = std::accumulate(header.begin(), header.end(), 0U, [](unsigned total, char byte) {
        return total + static_cast<unsigned char>(byte);
    });
    put(header, sum_at, fmt::format("{:06o}", sum));
    header[sum_at + 6] = '\0';
    header[sum_at + 7] = ' ';
    bytes_ += header;
    bytes_ += content;
    bytes_.resize((bytes_.size() + block - 1) / block * block, '\0');
}

std::string Tar::finish() &&
{
    bytes_.resize(bytes_.size() + 2 * block, '\0');
    return std::move(bytes_);
}

} // namespace bulkhead::cli
