// SPDX-License-Identifier: Apache-2.0
#include "cli/host/finding.h"

#include <algorithm>
#include <fstream>

namespace bulkhead::cli {

std::optional<std::string> first_line(const std::string& path)
{
    std::ifstream file(path);
    std::string line;
    if (!file || !std::getline(file, line))
        return std::nullopt;
    return line;
}

namespace {

constexpr std::streamoff most = 4 << 20;

std::optional<std::string> read_from(std::ifstream& file)
{
    std::string text(most, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad())
        return std::nullopt;
    text.resize(static_cast<std::size_t>(file.gcount()));
    return text;
}

} // namespace

std::optional<std::string> whole_file(const std::string& path)
{
    std::ifstream file(path, std::ios::binary);
    return file ? read_from(file) : std::nullopt;
}

std::optional<std::string> end_of_file(const std::string& path)
{
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    if (!file)
        return std::nullopt;
    file.seekg(std::max<std::streamoff>(file.tellg() - most, 0));
    return read_from(file);
}

std::optional<std::string> HostPaths::output_of(const std::vector<std::string>& argv) const
{
    auto ended = run(argv);
    return ended && ended->code == 0 ? std::optional(std::move(ended->output)) : std::nullopt;
}

} // namespace bulkhead::cli
