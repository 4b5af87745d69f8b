// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/ring_reader.h"

#include "common/core/log.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <utility>

namespace bulkhead::agent {
namespace {

constexpr std::chrono::milliseconds longest_read{250};

std::size_t page_size()
{
    static const auto size = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return size;
}

template <typename Number>
std::atomic_ref<Number> shared(std::byte* at)
{
    return std::atomic_ref<Number>(*reinterpret_cast<Number*>(at));
}

} // namespace

Result<MappedPages> MappedPages::map(int fd, std::size_t offset, std::size_t size, int protection)
{
    void* begin = ::mmap(nullptr, size, protection, MAP_SHARED, fd, static_cast<off_t>(offset));
    if (begin == MAP_FAILED)
        return fail_errno(errno, "map pages of a ring");
    MappedPages pages;
    pages.begin_ = static_cast<std::byte*>(begin);
    pages.size_ = size;
    return pages;
}

MappedPages::MappedPages(MappedPages&& other) noexcept
    : begin_(std::exchange(other.begin_, nullptr)), size_(std::exchange(other.size_, 0))
{}

MappedPages& MappedPages::operator=(MappedPages&& other) noexcept
{
    std::swap(begin_, other.begin_);
    std::swap(size_, other.size_);
    return *this;
}

MappedPages::~MappedPages()
{
    if (begin_ != nullptr)
        ::munmap(begin_, size_);
}

Result<RingReader> RingReader::open(int ring, std::size_t window)
{
    bpf_map_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(ring, &info, &size) != 0)
        return fail_errno(errno, "look at a ring");
    if (info.type != BPF_MAP_TYPE_RINGBUF)
        return fail(ErrorKind::invalid, "map {} is no ring", info.id);
    // A record begins anywhere in the window's first page; the pages of the last window begin in the last page.
    const auto pages = std::max<std::size_t>((window + page_size() - 1) / page_size(), 2);
    UniqueFd own(::fcntl(ring, F_DUPFD_CLOEXEC, 0));
    if (!own)
        return fail_errno(errno, "duplicate the fd of a ring");
    RingReader reader(std::move(own), info.max_entries);
    reader.window_ = std::min(pages * page_size(), reader.size_ + page_size());
    BULKHEAD_TRY(reader.consumer_, MappedPages::map(ring, 0, page_size(), PROT_READ | PROT_WRITE));
    BULKHEAD_TRY(reader.producer_, MappedPages::map(ring, page_size(), page_size(), PROT_READ));
    return reader;
}

// Behind the two pages of positions come those of the data, and then the same again, so that a record that goes over
// the end is in one piece.
Status RingReader::look_at(std::uint64_t position, std::size_t bytes)
{
    const std::uint64_t at = position & (size_ - 1);
    if (at >= data_begins_ && at + bytes <= data_begins_ + data_.size())
        return {};
    const std::uint64_t begins = at / page_size() * page_size();
    data_ = {}; // before the next is there: never both
    BULKHEAD_TRY(data_, MappedPages::map(ring_.get(), 2 * page_size() + begins, window_, PROT_READ));
    data_begins_ = begins;
    return {};
}

void RingReader::take_out(std::uint64_t until, const Settle& settle)
{
    const auto consumed = shared<std::uint64_t>(consumer_.begin());
    if (consumed.load(std::memory_order_relaxed) == until)
        return;
    settle();
    consumed.store(until, std::memory_order_release);
}

Result<std::size_t> RingReader::read(const Sink& sink, std::size_t batch, const Settle& settle)
{
    std::size_t records = 0, entries = 0; // of which some were given up by their writers
    auto consumed = shared<std::uint64_t>(consumer_.begin()).load(std::memory_order_relaxed);
    const auto settled_on_error = [&](const Status& status) {
        if (!status)
            take_out(consumed, settle);
        return status;
    };
    const auto produced = [&] { return shared<std::uint64_t>(producer_.begin()).load(std::memory_order_acquire); };
    const auto once_round = consumed + size_;
    const auto deadline = std::chrono::steady_clock::now() + longest_read;
    for (auto end = produced(); consumed < once_round && (consumed < end || consumed < (end = produced()));) {
        BULKHEAD_CHECK(settled_on_error(look_at(consumed, BPF_RINGBUF_HDR_SZ)));
        const auto header = [&] { return data_.begin() + ((consumed & (size_ - 1)) - data_begins_); };
        const auto word = shared<std::uint32_t>(header()).load(std::memory_order_acquire);
        if ((word & BPF_RINGBUF_BUSY_BIT) != 0)
            break; // its writer is not done, and order is kept
        const std::size_t length = word & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
        const std::size_t whole = (length + BPF_RINGBUF_HDR_SZ + 7) / 8 * 8;
        if ((word & BPF_RINGBUF_DISCARD_BIT) == 0) {
            if (whole > window_ - page_size()) {
                log_error("a ring holds a record of {} bytes: skipped", length);
            } else {
                BULKHEAD_CHECK(settled_on_error(look_at(consumed, whole)));
                sink({header() + BPF_RINGBUF_HDR_SZ, length});
                ++records;
            }
        }
        consumed += whole;
        if (++entries % batch == 0) {
            take_out(consumed, settle);
            if (std::chrono::steady_clock::now() >= deadline)
                break;
        }
    }
    take_out(consumed, settle);
    return records;
}

std::uint64_t RingReader::unread() const
{
    const auto consumed = shared<std::uint64_t>(consumer_.begin()).load(std::memory_order_relaxed);
    const auto produced = shared<std::uint64_t>(producer_.begin()).load(std::memory_order_relaxed);
    return produced > consumed ? produced - consumed : 0;
}

} // namespace bulkhead::agent
