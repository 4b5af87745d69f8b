// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/host/secrets.h"
#include "cli/output/listing.h"
#include "common/core/result.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace bulkhead::cli {

// bulkhead-support-HOST-TIME, with as much of the host's name as an archive has room for.
[[nodiscard]] std::string bundle_folder(std::string host, std::int64_t unix_seconds);

// The files of a support bundle. Every one goes through the filter; one that could not be had is listed with its reason
// in MANIFEST.txt, and does not keep the others from being there.
class Bundle {
public:
    Bundle(std::string folder, SecretFilter filter) : folder_(std::move(folder)), filter_(std::move(filter)) {}

    void add(const std::string& name, const Result<std::string>& content);
    void add_document(const std::string& name, Result<Json> document);
    [[nodiscard]] const std::vector<std::string>& missing() const { return missing_; }

    // A new file of mode 0600; one that is there already is refused. On error there is no file.
    [[nodiscard]] Status write(const std::string& path, std::int64_t unix_seconds) const;

private:
    std::string folder_;
    SecretFilter filter_;
    std::vector<std::pair<std::string, std::string>> files_;
    std::vector<std::string> missing_;
};

} // namespace bulkhead::cli
