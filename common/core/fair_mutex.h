// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>

namespace bulkhead {

// A mutex that nobody gets twice in a row while another waits for it, as may happen with std::mutex to who unlocks it
// only to lock it again. BasicLockable.
class FairMutex {
public:
    void lock()
    {
        const std::lock_guard next(door_); // one waits in the door, and all who come behind him
        inner_.lock();
    }
    void unlock() { inner_.unlock(); }

private:
    std::mutex door_, inner_;
};

} // namespace bulkhead
