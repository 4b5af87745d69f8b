// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/spool/file_operations.h"
#include "agent/spool/spool.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

namespace bulkhead::agent {

// A folder of its own, removed at the end.
class SpoolFolder {
public:
    SpoolFolder()
    {
        // In memory where there is such a place: these tests ask what is synced when, not how fast the disk is.
        const bool shm = ::access("/dev/shm", W_OK) == 0;
        const std::filesystem::path parent = shm ? "/dev/shm" : std::filesystem::temp_directory_path();
        std::string path = (parent / "bulkhead-spool-XXXXXX").string();
        path_ = ::mkdtemp(path.data()) != nullptr ? path : "";
        EXPECT_FALSE(path_.empty());
    }
    ~SpoolFolder()
    {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    SpoolFolder(const SpoolFolder&) = delete;
    SpoolFolder& operator=(const SpoolFolder&) = delete;

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::vector<std::string> files_ending(const std::string& suffix) const
    {
        std::vector<std::string> result;
        for (const auto& entry : std::filesystem::directory_iterator(path_)) {
            if (entry.path().string().ends_with(suffix))
                result.push_back(entry.path().string());
        }
        std::sort(result.begin(), result.end());
        return result;
    }
    [[nodiscard]] std::vector<std::string> segments() const { return files_ending(".seg"); }

    [[nodiscard]] std::unique_ptr<Spool> open(std::uint64_t segment_bytes = 8U << 20,
                                              std::uint64_t max_bytes = 256U << 20,
                                              FileOperations& files = system_files()) const
    {
        auto spool = open_spool({path_, max_bytes, segment_bytes}, files);
        if (!spool) {
            ADD_FAILURE() << spool.error().message;
            return nullptr;
        }
        return *std::move(spool);
    }

private:
    std::string path_;
};

inline std::string read_file(const std::string& path)
{
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, const std::string& bytes)
{
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// A record that names itself by number, so that order and identity can be checked.
inline v1::Record numbered(std::uint64_t number)
{
    v1::Record record;
    record.set_time_us(1'000'000 + static_cast<std::int64_t>(number));
    record.set_kind(v1::Record::FLOW);
    record.set_host("host-1");
    record.set_agent_id("agent-1");
    record.set_policy_version(number);
    return record;
}

inline void append(Spool& spool, std::uint64_t from, std::uint64_t to)
{
    for (auto number = from; number <= to; ++number) {
        const auto status = spool.append(numbered(number));
        ASSERT_TRUE(status) << status.error().message;
    }
}

inline std::vector<v1::Record> read_all(Spool& spool, std::uint64_t after = 0)
{
    std::vector<v1::Record> all;
    while (true) {
        const auto some = spool.read(after, 1000, std::chrono::milliseconds(0));
        if (!some) {
            ADD_FAILURE() << some.error().message;
            return all;
        }
        if (some->empty())
            return all;
        all.insert(all.end(), some->begin(), some->end());
        after = all.back().seq();
    }
}

inline std::vector<v1::Lost> gaps_of(const std::vector<v1::Record>& records)
{
    std::vector<v1::Lost> gaps;
    for (const auto& record : records) {
        if (record.kind() == v1::Record::GAP)
            gaps.push_back(record.lost());
    }
    return gaps;
}

} // namespace bulkhead::agent
