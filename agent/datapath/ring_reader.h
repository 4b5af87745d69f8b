// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "common/core/unique_fd.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

namespace bulkhead::agent {

// Pages of a map that are mapped for as long as this lives.
class MappedPages {
public:
    MappedPages() = default;
    // `offset` and `size` are multiples of the page size.
    [[nodiscard]] static Result<MappedPages> map(int fd, std::size_t offset, std::size_t size, int protection);
    MappedPages(MappedPages&& other) noexcept;
    MappedPages& operator=(MappedPages&& other) noexcept;
    ~MappedPages();

    [[nodiscard]] std::byte* begin() const { return begin_; }
    [[nodiscard]] std::size_t size() const { return size_; }

private:
    std::byte* begin_ = nullptr;
    std::size_t size_ = 0;
};

// Reads a BPF_MAP_TYPE_RINGBUF, by the protocol of the kernel's Documentation/bpf/ringbuf.rst. Not by libbpf, which
// maps the whole ring, twice, and all of it counts as resident: this one looks at it through a window. One reader a
// ring; one thread, but for unread().
class RingReader {
public:
    static constexpr std::size_t default_window = 256 * 1024;

    // Keeps an fd of its own. `window` in bytes; a record that does not fit into all of it but a page is
    // skipped, and said to be.
    [[nodiscard]] static Result<RingReader> open(int ring, std::size_t window = default_window);

    // Reads what is complete, until there is nothing more, or once round, or for a quarter of a second: a ring that
    // fills as fast as it is read keeps nobody waiting, nor does one whose records take long. Returns how many records.
    // After an error the rest is still there. Of each `batch`, at least 1, those counted that were given up, and of the
    // last ones, `settle` is called before they are taken out of the ring: of a process that dies in between, the next
    // one reads them again.
    using Sink = std::function<void(std::span<const std::byte>)>;
    using Settle = std::function<void()>;
    [[nodiscard]] Result<std::size_t> read(const Sink& sink, std::size_t batch, const Settle& settle);

    // For poll(2): readable while there is something to read. Who sleeps already is woken by those writers that ask for
    // it.
    [[nodiscard]] int fd() const { return ring_.get(); }
    // Bytes that wait to be read, headers and what is not complete yet among them.
    [[nodiscard]] std::uint64_t unread() const;

private:
    RingReader(UniqueFd ring, std::size_t size) : ring_(std::move(ring)), size_(size) {}
    [[nodiscard]] Status look_at(std::uint64_t position, std::size_t bytes);
    void take_out(std::uint64_t until, const Settle& settle);

    UniqueFd ring_;
    std::size_t size_;       // of the data, a power of two
    std::size_t window_ = 0; // of the data that is mapped at once
    MappedPages consumer_, producer_, data_;
    std::uint64_t data_begins_ = 0; // offset in the ring of what is mapped
};

} // namespace bulkhead::agent
