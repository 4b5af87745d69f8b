// SPDX-License-Identifier: Apache-2.0
#include "cli/host/finding.h"

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

std::optional<std::string> whole_file(const std::string& path)
{
    constexpr std::size_t most = 4 << 20;
    std::ifstream file(path, std::ios::binary);
    if (!file)
        return std::nullopt;
    std::string text(most, '\0');
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    if (file.bad())
        return std::nullopt;
    text.resize(static_cast<std::size_t>(file.gcount()));
    return text;
}

} // namespace bulkhead::cli
