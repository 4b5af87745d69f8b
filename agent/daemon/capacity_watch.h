// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/datapath.h"

#include <map>
#include <string>
#include <vector>

namespace bulkhead::agent {

// Which of the kernel's tables are nearly full. What has been told stays told until there is room again.
class CapacityWatch {
public:
    // In words: the tables that have become nearly full since the last call (80 % and more; below 70 % there is room).
    [[nodiscard]] std::vector<std::string> look(const std::vector<MapUse>& use);
    // All that are nearly full now, with their numbers.
    [[nodiscard]] std::vector<std::string> standing() const;

private:
    std::map<std::string, std::string> standing_; // name -> words
};

} // namespace bulkhead::agent
