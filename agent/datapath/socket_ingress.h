// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/attachments.h"
#include "agent/datapath/pins.h"
#include "agent/datapath/programs.h"

#include <memory>
#include <vector>

namespace bulkhead::agent {

// The inbound door's question at the sockets of network namespaces in which no door stands (bpf/hooks/ingress.h). The
// kernel then asks for every packet of every socket of the cgroup, so it is attached when it is first needed; from then
// on until the host starts anew, whatever agents come and go. Not thread-safe.
class SocketIngress {
public:
    SocketIngress(std::shared_ptr<SparePrograms> program, const IngressOptions& options)
        : program_(std::move(program)), options_(options)
    {}

    // Before the first program acts. Fails where it is wanted always and cannot be loaded. Where an agent before has
    // attached it and ours cannot be loaded, that is told, and tried again by follow().
    [[nodiscard]] Status prepare(const PinFolder& pins);
    // What is to be attached with the doors, and as they are: all, or none of them.
    [[nodiscard]] std::vector<Hook> hooks() const;
    // When the doors act: goes on with what an agent before has attached, or takes it away where it is not wanted. What
    // fails is told, and tried again by follow().
    void begin(const PinFolder& pins, Attachments& attachments) const;
    // `needed`: packets may come to such namespaces past the guard.
    [[nodiscard]] Status follow(bool needed, Attachments& attachments);
    // Ours, or that of an agent before.
    [[nodiscard]] static bool acts(const PinFolder& pins);

private:
    [[nodiscard]] Hook hook() const;

    std::shared_ptr<SparePrograms> program_;
    IngressOptions options_;
    bool wanted_ = false; // whatever comes
    bool loaded_ = false;
};

} // namespace bulkhead::agent
