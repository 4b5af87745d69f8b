// SPDX-License-Identifier: Apache-2.0
#include "agent/daemon/memory.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <malloc.h>
#include <string>
#include <string_view>

namespace bulkhead::agent {

namespace {

// Code of files, never written to: private, readable, executable (proc_pid_maps(5)). Read-only data is left alone, for
// some of it was written to when the program was linked, and would be lost.
void drop_code()
{
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line);) {
        std::uintptr_t begin = 0, end = 0;
        unsigned long inode = 0;
        char permissions[5] = {};
        if (std::sscanf(line.c_str(), "%lx-%lx %4s %*x %*s %lu", &begin, &end, permissions, &inode) == 4 &&
            inode != 0 && std::string_view(permissions) == "r-xp")
            (void)::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    }
}

} // namespace

void give_memory_back()
{
    ::malloc_trim(0);
    drop_code();
}

} // namespace bulkhead::agent
