// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/policy/document.h"

#include <string>
#include <vector>

namespace bulkhead::policy {

// What documents say before names mean anything: the hand-over from the readers to resolve().

// A service as a rule writes it: a name, or a word such as `tcp/443`.
struct ServiceWord {
    std::string text;
    SourceRef where;
};

struct DeclaredRule {
    Rule rule; // without services
    std::vector<ServiceWord> services;
    bool complete = false; // false: there are findings about its sides or its process
};

struct DeclaredSegment {
    Segment segment; // without rules
    std::vector<DeclaredRule> rules;
};

struct DeclaredService {
    std::string name;
    SourceRef where;
    std::vector<ServiceWord> members;
};

struct DeclaredGroup {
    std::string name;
    SourceRef where;
    std::vector<Cidr> cidrs;
};

struct Declared {
    std::vector<DeclaredSegment> segments;
    std::vector<DeclaredService> services;
    std::vector<DeclaredGroup> groups;
    std::vector<WorkloadDeclaration> workloads;
};

} // namespace bulkhead::policy
