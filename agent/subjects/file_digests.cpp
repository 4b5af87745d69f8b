// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/file_digests.h"

#include "common/core/unique_fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <condition_variable>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <system_error>
#include <utility>
#include <vector>

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t max_bytes = 1ULL << 30;
constexpr std::uint64_t bytes_in_turn = 4ULL << 20;
constexpr std::size_t at_a_time = 64; // parties: each holds a file open
constexpr int kept_unwanted = 4;      // rounds
constexpr int pause_per_turn = 3;     // after reading for others: so many times as long as it took
constexpr int others_share_of_wait = 10;
constexpr std::chrono::seconds patience_at_the_end{1};

// Reads a file of a known size in turns. What lies at the path may be another one by now, which its owner chose: a
// FIFO, or a longer one.
class Digestion {
public:
    Digestion(const std::string& path, std::uint64_t size)
        : file_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)),
          hash_(::EVP_MD_CTX_new(), ::EVP_MD_CTX_free), left_(size + 1)
    {
        struct stat status {};
        failed_ = !file_ || ::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode) ||
                  static_cast<std::uint64_t>(status.st_size) != size || !hash_ ||
                  ::EVP_DigestInit_ex(hash_.get(), ::EVP_sha256(), nullptr) != 1;
    }

    // True when there is nothing left to read.
    bool read_on(std::vector<char>& buffer)
    {
        for (std::uint64_t in_turn = 0; !failed_ && in_turn < bytes_in_turn;) {
            const auto got = ::read(file_.get(), buffer.data(), std::min<std::uint64_t>(buffer.size(), left_));
            if (got < 0 && errno == EINTR)
                continue;
            if (got == 0)
                return true;
            if (got > 0) {
                in_turn += static_cast<std::uint64_t>(got);
                left_ -= static_cast<std::uint64_t>(got);
            }
            failed_ = got < 0 || left_ == 0 ||
                      ::EVP_DigestUpdate(hash_.get(), buffer.data(), static_cast<std::size_t>(got)) != 1;
        }
        return failed_;
    }

    [[nodiscard]] std::optional<std::string> digest()
    {
        std::array<unsigned char, EVP_MAX_MD_SIZE> bytes{};
        unsigned length = 0;
        if (failed_ || ::EVP_DigestFinal_ex(hash_.get(), bytes.data(), &length) != 1)
            return std::nullopt;
        std::string hex;
        for (unsigned i = 0; i < length; ++i)
            hex += fmt::format("{:02x}", bytes[i]);
        return hex;
    }

private:
    UniqueFd file_;
    std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> hash_;
    std::uint64_t left_; // one more than the file has
    bool failed_ = false;
};

// Whose turn it is: an owner's files of one file system. Those of one container are all root's.
struct Party {
    explicit Party(const FileIdentity& file) : owner(file.owner), device(file.device) {}
    std::uint32_t owner, device;
    auto operator<=>(const Party&) const = default;
};

} // namespace

// Shared with the thread, which may outlive the owner.
struct FileDigests::Work {
    struct Wanted {
        std::string path, mountinfo;
        std::uint64_t in_round = 0; // was it wanted the last time
    };
    struct Answer {
        std::optional<std::string> digest;
        std::uint64_t in_round = 0;
    };
    using Files = std::map<FileIdentity, Wanted>;

    // Nothing, if it is not wanted any more.
    Files::node_type take(const FileIdentity& file)
    {
        if (auto found = of_root.extract(file))
            return found;
        const auto party = of_others.find(Party(file));
        if (party == of_others.end())
            return {};
        auto found = party->second.extract(file);
        if (party->second.empty())
            of_others.erase(party);
        return found;
    }

    std::mutex mutex;
    std::condition_variable changed;
    Files of_root;                    // unread
    std::map<Party, Files> of_others; // none is empty
    std::map<FileIdentity, Answer> answers;
    std::uint64_t round = 0; // calls of forget_unwanted()
    bool left = false;       // nobody wants anything any more
    bool ended = false;      // the thread has
};

class FileDigests::Reader {
public:
    explicit Reader(std::shared_ptr<Work> work) : work_(std::move(work)), buffer_(1U << 17) {}

    void run()
    {
        std::unique_lock lock(work_->mutex);
        while (!work_->left) {
            if (!work_->of_root.empty())
                read_for_root(lock);
            else if (!work_->of_others.empty())
                read_for_others(lock);
            else
                work_->changed.wait(lock);
        }
        work_->ended = true;
        work_->changed.notify_all();
    }

private:
    struct UnderWay {
        FileIdentity file;
        Work::Wanted wanted;
        std::unique_ptr<Digestion> digestion{}; // opening and closing can take long, too: without the lock
    };

    void read_for_root(std::unique_lock<std::mutex>& lock)
    {
        if (of_root_ && !work_->of_root.contains(of_root_->file))
            leave(*of_root_);
        if (!of_root_ || !of_root_->digestion)
            of_root_ = UnderWay{work_->of_root.begin()->first, work_->of_root.begin()->second};
        if (read_on(*of_root_, lock))
            of_root_.reset();
    }

    // The party after the one whose turn it was.
    void read_for_others(std::unique_lock<std::mutex>& lock)
    {
        for (auto at = of_others_.begin(); at != of_others_.end();) {
            const auto party = work_->of_others.find(at->first);
            if (party != work_->of_others.end() && party->second.contains(at->second.file)) {
                ++at;
                continue;
            }
            leave(at->second);
            at = of_others_.erase(at);
        }
        const auto after = [this](const auto& parties) {
            const auto found = last_ ? parties.upper_bound(*last_) : parties.begin();
            return found != parties.end() ? found : parties.begin();
        };
        const auto party = of_others_.size() < at_a_time ? after(work_->of_others)->first : after(of_others_)->first;
        auto at = of_others_.find(party);
        if (at == of_others_.end()) {
            const auto& [file, wanted] = *work_->of_others.at(party).begin();
            at = of_others_.emplace(party, UnderWay{file, wanted}).first;
        }
        const auto begun = std::chrono::steady_clock::now();
        if (read_on(at->second, lock))
            of_others_.erase(at);
        last_ = party;
        const auto took = std::chrono::steady_clock::now() - begun;
        work_->changed.wait_for(lock, took * pause_per_turn, [this] { return work_->left || !work_->of_root.empty(); });
    }

    void leave(UnderWay& reading) { left_.push_back(std::move(reading.digestion)); }

    // One turn, without the lock; true if it was the last.
    bool read_on(UnderWay& reading, std::unique_lock<std::mutex>& lock)
    {
        lock.unlock();
        left_.clear();
        if (!reading.digestion)
            reading.digestion = std::make_unique<Digestion>(reading.wanted.path, reading.file.size);
        const bool all = reading.digestion->read_on(buffer_);
        std::optional<std::string> digest;
        if (all) {
            digest = reading.digestion->digest();
            reading.digestion.reset();
        }
        if (digest && identify_file(reading.wanted.path, reading.wanted.mountinfo) != reading.file)
            digest.reset();
        lock.lock();
        if (!all)
            return false;
        if (const auto wanted = work_->take(reading.file)) {
            work_->answers[reading.file] = {std::move(digest), wanted.mapped().in_round};
            work_->changed.notify_all();
        }
        return true;
    }

    std::shared_ptr<Work> work_;
    std::vector<char> buffer_;
    std::optional<UnderWay> of_root_;
    std::map<Party, UnderWay> of_others_;
    std::vector<std::unique_ptr<Digestion>> left_; // not read to the end
    std::optional<Party> last_;
};

FileDigests::FileDigests() : work_(std::make_shared<Work>()) {}

FileDigests::~FileDigests()
{
    if (!thread_.joinable())
        return;
    bool ended = false;
    {
        std::unique_lock lock(work_->mutex);
        work_->left = true;
        work_->changed.notify_all();
        ended = work_->changed.wait_for(lock, patience_at_the_end, [this] { return work_->ended; });
    }
    if (ended)
        thread_.join();
    else
        thread_.detach();
}

void FileDigests::want(const FileIdentity& file, const std::string& path, const std::string& mountinfo, Of whose)
{
    if (file.size > max_bytes)
        return;
    const std::lock_guard lock(work_->mutex);
    if (const auto answer = work_->answers.find(file); answer != work_->answers.end()) {
        answer->second.in_round = work_->round;
        if (answer->second.digest)
            return;
        work_->answers.erase(answer);
    }
    if (!thread_.joinable())
        try {
            thread_ = std::thread([reader = std::make_shared<Reader>(work_)] { reader->run(); });
        } catch (const std::system_error&) { // no more threads: the next time
            return;
        }
    auto before = work_->take(file);
    auto& wanted = (whose == Of::root ? work_->of_root : work_->of_others[Party(file)])[file];
    if (before)
        wanted = std::move(before.mapped());
    else
        wanted = {path, mountinfo, 0};
    wanted.in_round = work_->round;
    work_->changed.notify_all();
}

void FileDigests::wait(std::chrono::milliseconds at_most)
{
    const auto now = std::chrono::steady_clock::now();
    std::unique_lock lock(work_->mutex);
    work_->changed.wait_until(lock, now + at_most / others_share_of_wait,
                              [this] { return work_->of_root.empty() && work_->of_others.empty(); });
    work_->changed.wait_until(lock, now + at_most, [this] { return work_->of_root.empty(); });
}

std::optional<std::string> FileDigests::of(const FileIdentity& file) const
{
    const std::lock_guard lock(work_->mutex);
    const auto answer = work_->answers.find(file);
    return answer != work_->answers.end() ? answer->second.digest : std::nullopt;
}

bool FileDigests::is_unread(const FileIdentity& file) const
{
    const std::lock_guard lock(work_->mutex);
    const auto party = work_->of_others.find(Party(file));
    return work_->of_root.contains(file) || (party != work_->of_others.end() && party->second.contains(file));
}

void FileDigests::forget_unwanted()
{
    const std::lock_guard lock(work_->mutex);
    ++work_->round;
    const auto unwanted = [this](const auto& entry) { return work_->round - entry.second.in_round > kept_unwanted; };
    std::erase_if(work_->answers, unwanted);
    std::erase_if(work_->of_root, unwanted);
    for (auto party = work_->of_others.begin(); party != work_->of_others.end();) {
        std::erase_if(party->second, unwanted);
        party = party->second.empty() ? work_->of_others.erase(party) : std::next(party);
    }
}

} // namespace bulkhead::agent
