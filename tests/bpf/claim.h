// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/unique_fd.h"

#include <string>

namespace bulkhead::test {

// Of this process: the name of the cgroups and the folder of pins that its tests make. A locked file says that it lives;
// what one that was killed has left behind is removed when the next makes its claim.
class Claim {
public:
    static const Claim& of_this_process();

    Claim(const Claim&) = delete;
    Claim& operator=(const Claim&) = delete;
    ~Claim();

    [[nodiscard]] std::string cgroup() const; // not made yet; others may begin with this name
    [[nodiscard]] std::string pins() const;

private:
    Claim();

    std::string name_;
    UniqueFd lock_;
};

// Removes what is left of processes that hold no lock any more.
void remove_leftovers();

} // namespace bulkhead::test
