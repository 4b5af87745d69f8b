// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "common/core/result.h"
#include "record.pb.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace bulkhead::agent {

class FileOperations;

// The agent's records on disk: an append-only log in segment files, bounded in bytes, format in docs/spool-format.md.
// append() numbers records (seq, from 1, without holes, for ever); agent and boot id are the caller's to stamp. When
// the bound is reached the oldest segment goes, acknowledged or not. Flows, of which anybody can make any number, have
// a bound of their own where records are acknowledged, so that they push out nothing else. Records that are lost so,
// damaged or never written (disk full) become one gap record, with the host and ids of the record that follows, as soon
// as it can be written. A torn tail after a crash is cut off. Thread-safe.
class Spool {
public:
    virtual ~Spool() = default;

    // Numbers the record and appends it; strings that are no UTF-8 are repaired. Never blocks on the network; may block
    // on the disk. On a disk error the record is counted as lost and the error returned; a gap record follows when the
    // disk is back. A flow for which there is no room (SpoolOptions) is counted as lost, too, and is no error.
    Status append(v1::Record record)
    {
        std::vector<v1::Record> one;
        one.push_back(std::move(record));
        return append_all(std::move(one));
    }
    // The same of several, in one go on the disk where they fit; an error is that of the last one that was lost.
    virtual Status append_all(std::vector<v1::Record> records) = 0;
    // fdatasync what was appended. The daemon calls it once a second and at its end.
    virtual Status sync() = 0;

    // Up to `limit` records and about 1 MiB with seq > `after`, in order; waits up to `timeout` for the first one.
    // Empty: none yet. What is handed out is on the disk: after a power failure no number is given to a second record.
    virtual Result<std::vector<v1::Record>> read(std::uint64_t after, std::size_t limit,
                                                 std::chrono::milliseconds timeout) = 0;
    // The controller has everything up to `seq`. Kept across restarts. Acknowledged records stay readable (local
    // history) until their segment is needed. A number that was never given out means that this folder is older than
    // what the controller knows (restored, or made anew): numbering goes on behind it.
    virtual Status acknowledge(std::uint64_t seq) = 0;

    [[nodiscard]] virtual std::uint64_t acknowledged() const = 0;
    [[nodiscard]] virtual std::uint64_t first_seq() const = 0; // oldest held; next_seq() when empty
    [[nodiscard]] virtual std::uint64_t next_seq() const = 0;
    [[nodiscard]] virtual std::uint64_t bytes() const = 0;
    [[nodiscard]] virtual std::uint64_t lost() const = 0; // since this state folder was made
};

struct SpoolOptions {
    std::string dir;
    std::uint64_t max_bytes = 256ULL << 20;
    std::uint64_t segment_bytes = 8ULL << 20;
    // Where records are acknowledged: with more than this waiting for that, flows are lost and other records are not.
    // Whole segments count. 0: where nobody acknowledges, all are history alike.
    std::uint64_t flow_bytes = 0;
};
// Opens or creates. A damaged segment is set aside (".damaged"); its records before the damage are kept, the others
// reported as a gap.
// One process at a time has a folder open; another one gets an Error (failed). `files` outlives the spool.
[[nodiscard]] Result<std::unique_ptr<Spool>> open_spool(const SpoolOptions& options);
[[nodiscard]] Result<std::unique_ptr<Spool>> open_spool(const SpoolOptions& options, FileOperations& files);

} // namespace bulkhead::agent
