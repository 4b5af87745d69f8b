// SPDX-License-Identifier: Apache-2.0
#include "cli/host/mends.h"

#include <fmt/format.h>

namespace bulkhead::cli {
namespace {

constexpr const char* see_disk = "see the findings on the state folder and the disk; it is tried again by itself";
constexpr const char* newer_policy = "'bulkheadctl policy apply FILE', or a change in the policy folder, replaces it; "
                                     "look at the disk's health";

struct Known {
    std::string_view words;
    const char* mend;
};
// The first that fits counts.
constexpr Known warnings[] = {
    {"programs of another version enforce",
     "give it a policy: 'bulkheadctl policy apply FILE', or by the policy folder"},
    {"the state folder cannot be used", see_disk},
    {"the policy in force cannot be saved", see_disk},
    {"quarantine.pb", "if this host is in quarantine, 'bulkheadctl --local workload release' ends that; look at the "
                      "disk's health"},
    {"the one before it, is enforced", newer_policy},
    {"/policy.", newer_policy},
    {"refuses to enrol", enrol_again},
    {"is not enrolled", enrol_again},
    {"join token", enrol_again},
    {"agent.pem", enrol_again},
};

// Tables in the kernel, by the beginning of their names.
constexpr Known tables[] = {
    {"listeners", "'bulkheadctl --local maps listeners' shows who listens"},
    {"udp_", "'bulkheadctl --local maps conversations' shows who talks"},
    {"denials_", "'bulkheadctl --local violations' shows who is refused"},
    {"flow_ring", "events come faster than bulkheadd takes them: give it more of the processor"},
    {"deny_ring", "'bulkheadctl --local violations' shows who is refused; give bulkheadd more of the processor"},
    {"", "fewer of what it holds"},
};

} // namespace

std::string mend_of_warning(std::string_view warning)
{
    if (warning.find("signature cannot be verified") != std::string_view::npos)
        return fmt::format("put ca.pem back into the state folder; or remove agent.pem there, {}", enrol_again);
    for (const auto& known : warnings)
        if (warning.find(known.words) != std::string_view::npos)
            return known.mend;
    if (warning.ends_with(" in use")) // capacity_watch.cpp
        for (const auto& table : tables)
            if (warning.starts_with(table.words))
                return fmt::format("{}; what happens when it is full: /usr/share/doc/bulkhead-agent/agent.md.gz",
                                   table.mend);
    return "see /usr/share/doc/bulkhead-agent/troubleshooting.md.gz";
}

std::string mend_of_no_policy(std::string_view source)
{
    constexpr std::string_view folder = "folder ";
    if (source.starts_with(folder))
        return fmt::format("put a policy into {}", source.substr(folder.size()));
    if (source == "none")
        return "name a 'controller' or a 'policy_dir' in /etc/bulkhead/agent.yaml, then restart bulkheadd";
    return "bulkheadctl policy apply FILE, as an admin of the controller";
}

} // namespace bulkhead::cli
