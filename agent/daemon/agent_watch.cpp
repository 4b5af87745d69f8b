// SPDX-License-Identifier: Apache-2.0
// Agent: what is not as it should be in the kernel.
#include "agent/daemon/agent.h"

#include "common/core/log.h"

namespace bulkhead::agent {
namespace {

constexpr std::size_t kept = 8;

} // namespace

// What root did to our pins, links and maps. Each finding is told once: what was put right when it is, what cannot be
// put right until that changes.
void Agent::look_for_tampering()
{
    bool mended = false;
    std::set<std::string> standing;
    for (const auto& [what, failure] : datapath_->look_for_tampering()) {
        mended = mended || failure.empty();
        const auto outcome = failure.empty() ? "put right" : "NOT put right: " + failure;
        if (!failure.empty()) {
            standing.insert(what);
            if (standing_tampering_.contains(what))
                continue;
        }
        log_error("somebody changed what enforces here: {}; {}", what, outcome);
        records_->audit("datapath.tamper", what, outcome);
        v1::Tampering told;
        told.set_time_us(
            std::chrono::duration_cast<std::chrono::microseconds>(clock_.wall().time_since_epoch()).count());
        told.set_what(what);
        told.set_outcome(outcome);
        tampering_.push_back(std::move(told));
        if (tampering_.size() > kept)
            tampering_.pop_front();
        ++tampered_;
    }
    standing_tampering_ = std::move(standing);
    if (mended) // somebody may have come in meanwhile
        enforcer_->look_at_sessions();
}

// Programs of a version with other maps go on until ours have something to enforce.
void Agent::tell_takeover()
{
    if (!takeover_)
        return;
    if (!datapath_->pending_takeover()) {
        records_->audit("datapath.upgrade", *takeover_, "taken over without a gap");
        takeover_.reset();
    } else if (!std::exchange(takeover_pends_, true)) {
        log_error(
            "programs of another version ({}) go on enforcing what they did: no policy is saved that this version "
            "could enforce instead; the next policy replaces them",
            *takeover_);
        records_->audit("datapath.upgrade", *takeover_, "NOT taken over: no policy is saved; the next one does it");
    }
}

void Agent::look_at_capacity()
{
    for (const auto& words : capacity_.look(datapath_->map_use())) {
        log_warning("a table in the kernel is nearly full: {}", words);
        records_->audit("datapath.capacity", words.substr(0, words.find(':')), words);
    }
}

} // namespace bulkhead::agent
