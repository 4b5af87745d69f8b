// SPDX-License-Identifier: Apache-2.0
#include "agent/spool/state_file.h"

#include "agent/spool/crc32c.h"
#include "agent/spool/record_frame.h"

#include <fcntl.h>

#include <algorithm>
#include <optional>

namespace bulkhead::agent {
namespace {

constexpr std::string_view magic{"BHSTATE\1", 8};
constexpr std::size_t summed_bytes = 48;
constexpr std::size_t slot_bytes = summed_bytes + 4;
constexpr std::uint64_t slot_distance = 4096; // of its own block, so that one torn sector cannot spoil both

struct Slot {
    std::uint64_t generation = 0;
    SpoolState state;
};

std::string encode(const Slot& slot)
{
    std::string bytes(magic);
    for (const auto value :
         {slot.generation, slot.state.acknowledged, slot.state.next_seq, slot.state.lost, slot.state.unreported})
        put_u64(value, bytes);
    put_u32(crc32c(bytes), bytes);
    return bytes;
}

std::optional<Slot> decode(std::string_view bytes)
{
    if (bytes.size() < slot_bytes || !bytes.starts_with(magic) ||
        crc32c(bytes.substr(0, summed_bytes)) != get_u32(bytes.substr(summed_bytes)))
        return std::nullopt;
    const auto field = [&bytes](std::size_t index) { return get_u64(bytes.substr(8 * index)); };
    return Slot{field(1), {field(2), field(3), field(4), field(5)}};
}

} // namespace

Result<StateFile> StateFile::open(FileOperations& files, const std::string& path)
{
    BULKHEAD_TRY(auto fd, files.open(path, O_RDWR | O_CREAT));
    StateFile file(files, std::move(fd));
    BULKHEAD_CHECK(file.load());
    if (file.generation_ == 0) {
        // Take both blocks while there is room. Without room the spool still works; the next write tries again.
        (void)file.write_slot(file.state_);
        (void)file.write_slot(file.state_);
    }
    return file;
}

Status StateFile::load()
{
    for (const std::uint64_t index : {0, 1}) {
        BULKHEAD_TRY(const auto bytes, files_->read_at(fd_.get(), slot_bytes, index * slot_distance));
        const auto slot = decode(bytes);
        if (slot && slot->generation > generation_) {
            generation_ = slot->generation;
            state_ = slot->state;
        }
    }
    state_.next_seq = std::max<std::uint64_t>(state_.next_seq, 1);
    return {};
}

Status StateFile::write(const SpoolState& state)
{
    return generation_ != 0 && state == state_ ? Status{} : write_slot(state);
}

Status StateFile::write_slot(const SpoolState& state)
{
    const std::uint64_t next = generation_ + 1;
    BULKHEAD_CHECK(files_->write_at(fd_.get(), encode({next, state}), (next % 2) * slot_distance));
    generation_ = next;
    state_ = state;
    return {};
}

Status StateFile::sync()
{
    return files_->sync(fd_.get());
}

} // namespace bulkhead::agent
