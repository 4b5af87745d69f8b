// SPDX-License-Identifier: Apache-2.0
#include "cli/host/gzip.h"

#include <memory>
#include <zlib.h>

namespace bulkhead::cli {

Result<std::string> gzip(std::string_view bytes)
{
    constexpr int window_with_gzip_header = 15 + 16, memory_level = 8;
    z_stream stream{};
    if (::deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, window_with_gzip_header, memory_level,
                       Z_DEFAULT_STRATEGY) != Z_OK)
        return fail(ErrorKind::failed, "zlib cannot compress");
    std::string packed(::deflateBound(&stream, bytes.size()), '\0');
    std::string input(bytes); // zlib's interface is not const
    stream.next_in = reinterpret_cast<Bytef*>(input.data());
    stream.avail_in = static_cast<uInt>(input.size());
    stream.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_out = static_cast<uInt>(packed.size());
    const int done = ::deflate(&stream, Z_FINISH);
    packed.resize(stream.total_out);
    ::deflateEnd(&stream);
    if (done != Z_STREAM_END)
        return fail(ErrorKind::failed, "zlib cannot compress");
    return packed;
}

std::optional<std::string> gunzip_file(const std::string& path)
{
    constexpr std::size_t most = 16 << 20;
    const std::unique_ptr<gzFile_s, decltype(&::gzclose)> file(::gzopen(path.c_str(), "rb"), &::gzclose);
    if (!file)
        return std::nullopt;
    std::string text;
    char block[65536];
    for (;;) {
        const int count = ::gzread(file.get(), block, sizeof block);
        if (count < 0 || text.size() > most)
            return std::nullopt;
        if (count == 0)
            return text;
        text.append(block, static_cast<std::size_t>(count));
    }
}

} // namespace bulkhead::cli
