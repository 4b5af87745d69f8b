// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/recovery.h"

#include "common/core/log.h"

#include <fcntl.h>

#include <algorithm>
#include <charconv>

namespace bulkhead::agent {
namespace {

constexpr std::string_view segment_suffix = ".seg";
constexpr std::string_view damaged_suffix = ".damaged";
constexpr std::string_view salvage_suffix = ".new";
constexpr std::size_t digits = 20; // of the largest 64-bit number
constexpr std::size_t max_damaged_files = 4;
constexpr std::size_t max_segment_file_bytes = 128U << 20; // we write at most 64 MiB and one record

std::optional<std::uint64_t> first_seq_of(std::string_view name)
{
    std::uint64_t seq = 0;
    if (name.size() != digits + segment_suffix.size() || !name.ends_with(segment_suffix))
        return std::nullopt;
    const auto [end, code] = std::from_chars(name.data(), name.data() + digits, seq);
    if (code != std::errc{} || end != name.data() + digits || seq == 0 || seq > max_seq)
        return std::nullopt;
    return seq;
}

struct Loaded {
    UniqueFd fd;
    bool readable = false;
    std::string bytes;
    std::optional<SegmentScan> scan; // nullopt: no segment, or not readable
};

// Only a failure to open is an error: it says nothing about what the file holds.
Result<Loaded> load(FileOperations& files, const std::string& path)
{
    Loaded loaded;
    BULKHEAD_TRY(loaded.fd, files.open(path, O_RDWR));
    auto bytes = files.read_at(loaded.fd.get(), max_segment_file_bytes + 1, 0);
    if (!bytes)
        log_error("spool: {}: {}", path, bytes.error().message);
    if (!bytes || bytes->size() > max_segment_file_bytes)
        return loaded;
    loaded.readable = true;
    loaded.bytes = *std::move(bytes);
    loaded.scan = scan_segment(loaded.bytes);
    return loaded;
}

void prune_damaged(FileOperations& files, const std::string& dir)
{
    const auto names = files.list(dir);
    if (!names)
        return;
    std::vector<std::string> damaged;
    std::copy_if(names->begin(), names->end(), std::back_inserter(damaged),
                 [](const auto& name) { return name.ends_with(damaged_suffix); });
    for (std::size_t i = 0; i + max_damaged_files < damaged.size(); ++i)
        (void)files.remove(dir + "/" + damaged[i]); // kept for the admin only
}

Status set_aside(FileOperations& files, const std::string& dir, const std::string& path)
{
    BULKHEAD_CHECK(files.rename(path, path + std::string(damaged_suffix)));
    log_error("spool: {} is damaged and was set aside as {}{}", path, path, damaged_suffix);
    prune_damaged(files, dir);
    return {};
}

Result<std::shared_ptr<SegmentFile>> salvage(FileOperations& files, const std::string& path, std::string_view bytes)
{
    BULKHEAD_TRY(auto fd, files.open(path + std::string(salvage_suffix), O_RDWR | O_CREAT | O_TRUNC));
    BULKHEAD_CHECK(files.write_at(fd.get(), bytes, 0));
    BULKHEAD_CHECK(files.sync(fd.get()));
    auto scan = scan_segment(bytes);
    if (!scan)
        return nullptr;
    return std::make_shared<SegmentFile>(path, std::move(fd), *std::move(scan));
}

Result<std::shared_ptr<SegmentFile>> repair(FileOperations& files, const std::string& dir, const std::string& path,
                                            const Loaded& loaded)
{
    std::shared_ptr<SegmentFile> kept;
    if (loaded.scan && loaded.scan->count > 0) {
        auto copy = salvage(files, path, std::string_view(loaded.bytes).substr(0, loaded.scan->good_bytes));
        if (copy)
            kept = *std::move(copy);
        else
            log_error("spool: {}: cannot keep the records before the damage: {}", path, copy.error().message);
    }
    BULKHEAD_CHECK(set_aside(files, dir, path));
    const auto salvaged = path + std::string(salvage_suffix);
    if (kept) {
        BULKHEAD_CHECK(files.rename(salvaged, path));
    } else {
        (void)files.remove(salvaged);
    }
    return kept;
}

// Takes `told` out of every range.
void subtract(std::vector<Losses::Range>& ranges, const v1::Lost& told)
{
    std::vector<Losses::Range> rest;
    for (const auto& range : ranges) {
        if (told.to_seq() < range.from || told.from_seq() > range.to) {
            rest.push_back(range);
            continue;
        }
        if (range.from < told.from_seq())
            rest.push_back({range.from, told.from_seq() - 1, told.from_seq() - range.from});
        if (told.to_seq() < range.to)
            rest.push_back({told.to_seq() + 1, range.to, range.to - told.to_seq()});
    }
    ranges = std::move(rest);
}

class Recovery {
public:
    Recovery(FileOperations& files, const std::string& dir, const SpoolState& state) : files_(files), dir_(dir)
    {
        result_.acknowledged = state.acknowledged;
        result_.next_seq = state.next_seq;
    }

    Status add(const std::string& name, bool is_last)
    {
        const auto first_seq = first_seq_of(name);
        if (!first_seq)
            return {};
        const auto path = dir_ + "/" + name;
        BULKHEAD_TRY(auto loaded, load(files_, path));
        if (is_last && loaded.readable && loaded.bytes.size() < segment_header_bytes)
            return files_.remove(path); // its creation was cut short; it held nothing
        const bool wrong_place = !loaded.scan || loaded.scan->header.first_seq != *first_seq || *first_seq < end_;
        if (wrong_place)
            loaded.scan.reset();
        if (!loaded.scan || loaded.scan->damaged)
            return add_damaged(path, *first_seq, loaded);
        // Behind the last whole record lies at most the torn end of one write; the next append goes over it.
        if (loaded.bytes.size() > loaded.scan->good_bytes)
            (void)files_.truncate(loaded.fd.get(), loaded.scan->good_bytes);
        keep(std::make_shared<SegmentFile>(path, std::move(loaded.fd), *std::move(loaded.scan)));
        return {};
    }

    Recovered finish()
    {
        // Segments know of acknowledgements too, for the case that the state file was lost.
        for (const auto& segment : result_.segments)
            result_.acknowledged = std::max(result_.acknowledged, segment->acknowledged_at_start());
        result_.next_seq = std::max({result_.next_seq, result_.acknowledged + 1, end_});
        find_holes();
        return std::move(result_);
    }

private:
    Status add_damaged(const std::string& path, std::uint64_t first_seq, const Loaded& loaded)
    {
        if (loaded.scan)
            result_.next_seq = std::max(result_.next_seq, first_seq + loaded.scan->claimed);
        BULKHEAD_TRY(auto kept, repair(files_, dir_, path, loaded));
        if (kept)
            keep(std::move(kept));
        return {};
    }

    void keep(std::shared_ptr<SegmentFile> segment)
    {
        end_ = segment->next_seq();
        result_.segments.push_back(std::move(segment));
    }

    void find_holes()
    {
        auto expected = result_.acknowledged + 1;
        const auto hole_until = [&](std::uint64_t seq) {
            if (expected < seq)
                result_.lost.push_back({expected, seq - 1, seq - expected});
        };
        for (const auto& segment : result_.segments) {
            hole_until(segment->first_seq());
            expected = std::max(expected, segment->next_seq());
        }
        hole_until(result_.next_seq);
        for (const auto& segment : result_.segments) {
            for (const auto& gap : segment->gaps()) {
                if (gap.lost.from_seq() != 0)
                    subtract(result_.lost, gap.lost);
            }
        }
    }

    FileOperations& files_;
    const std::string& dir_;
    Recovered result_;
    std::uint64_t end_ = 1; // behind the last record kept
};

} // namespace

std::string segment_path(const std::string& dir, std::uint64_t first_seq)
{
    return fmt::format("{}/{:020}{}", dir, first_seq, segment_suffix);
}

Result<Recovered> recover(FileOperations& files, const std::string& dir, const SpoolState& state)
{
    BULKHEAD_TRY(const auto names, files.list(dir));
    std::vector<std::string> segments;
    for (const auto& name : names) {
        if (first_seq_of(name))
            segments.push_back(name);
        if (name.ends_with(salvage_suffix)) { // a repair that was cut short
            BULKHEAD_CHECK(files.remove(dir + "/" + name));
        }
    }
    Recovery recovery(files, dir, state);
    for (const auto& name : segments)
        BULKHEAD_CHECK(recovery.add(name, &name == &segments.back()));
    return recovery.finish();
}

Result<std::shared_ptr<SegmentFile>> repair_segment(FileOperations& files, const std::string& dir,
                                                    const std::string& path)
{
    BULKHEAD_TRY(auto loaded, load(files, path));
    if (loaded.scan && !loaded.scan->damaged && loaded.bytes.size() == loaded.scan->good_bytes)
        return std::make_shared<SegmentFile>(path, std::move(loaded.fd), *std::move(loaded.scan));
    return repair(files, dir, path, loaded);
}

} // namespace bulkhead::agent
