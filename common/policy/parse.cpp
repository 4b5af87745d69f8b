// SPDX-License-Identifier: Apache-2.0
#include "common/policy/parse.h"

#include "common/policy/document_reader.h"
#include "common/policy/resolve.h"
#include "common/policy/yaml_tree.h"

#include <fmt/format.h>

namespace bulkhead::policy {
namespace {

void read_file(const SourceFile& file, const std::shared_ptr<const std::string>& name, Findings& findings,
               Declared& declared)
{
    if (file.text.size() > max_file_bytes) {
        findings.add({name, 1, 1},
                     fmt::format("{} bytes; the limit of one file is {}", file.text.size(), max_file_bytes),
                     "split the file");
        return;
    }
    auto yaml = read_yaml(file.text);
    for (auto& finding : yaml.findings)
        findings.add({name, finding.line, finding.column}, std::move(finding.message), std::move(finding.mend));
    if (yaml.documents.empty() && yaml.findings.empty())
        findings.add({name, 1, 1}, "there is nothing in this file",
                     "write a policy, or remove the file; see docs/policy.md for the form");
    const NodeReader reader(name, findings);
    for (const auto& document : yaml.documents)
        read_document(reader, document, declared);
}

} // namespace

ParseOutcome parse(std::span<const SourceFile> files)
{
    Findings findings;
    Declared declared;
    std::vector<std::shared_ptr<const std::string>> names;
    std::size_t total = 0;
    for (const auto& file : files) {
        names.push_back(std::make_shared<const std::string>(file.name));
        total += file.text.size();
        if (total <= max_total_bytes)
            read_file(file, names.back(), findings, declared);
        else
            findings.add({names.back(), 1, 1}, fmt::format("all files together have over {} bytes", max_total_bytes),
                         "address groups of this size belong into fewer, larger prefixes");
    }
    if (files.empty()) // nothing to read must not be taken for a policy that allows everything
        findings.add({}, "no policy files", "name files or a folder that has some");
    ParseOutcome outcome;
    outcome.policy = resolve(std::move(declared), findings);
    outcome.diagnostics = std::move(findings).sorted(names);
    return outcome;
}

} // namespace bulkhead::policy
