// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/namespace_finder.h"
#include "agent/datapath/slice.h"

#include <dirent.h>

#include <cstdint>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace bulkhead::agent {

// Finds the network namespaces of the processes in a cgroup and below it, a slice at a time: whoever a part of the tree
// is delegated to may make it as large as he likes. Not those of which only a thread is in, or only a socket is held.
class NamespaceSweep {
public:
    explicit NamespaceSweep(std::string cgroup) : cgroup_(std::move(cgroup)) {}

    // Goes on where it was; ends with the slice, or when it was everywhere.
    void go_on(Slice& slice);
    // By inode number: what this sweep has found, and the one before it.
    [[nodiscard]] std::map<std::uint32_t, NamespaceHolder> found() const;

private:
    struct Waiting {            // a folder that was not looked at yet
        std::size_t parent = 0; // length of its path, which path_ begins with when this one's turn comes
        std::string name;
    };
    struct CloseFolder {
        void operator()(DIR* folder) const { ::closedir(folder); }
    };
    struct Seen {
        NamespaceHolder holder;
        std::uint64_t sweep = 0;
    };
    void enter(const std::string& folder);
    [[nodiscard]] bool step();
    void look_at(int pid);
    void begin();
    void end();

    std::string cgroup_, path_;
    std::vector<Waiting> waiting_;
    std::unique_ptr<DIR, CloseFolder> folder_;
    std::ifstream processes_;
    bool under_way_ = false;
    std::uint64_t sweep_ = 0;
    std::map<std::uint32_t, Seen> seen_;
};

} // namespace bulkhead::agent
