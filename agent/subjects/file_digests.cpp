// SPDX-License-Identifier: Apache-2.0
#include "agent/subjects/file_digests.h"

#include "agent/subjects/digestion.h"

#include <atomic>
#include <condition_variable>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

namespace bulkhead::agent {
namespace {

constexpr std::uint64_t max_bytes = 1ULL << 30;
constexpr std::size_t at_a_time = 64; // parties: each holds a file open
constexpr unsigned turns_of_root = 3; // for one of the others, while both have something to read
constexpr int pause_per_turn = 3;     // after reading for others: so many times as long as it took
constexpr int others_share_of_wait = 10;
constexpr std::uint64_t unread_kept_for = 4, answers_kept_for = 600; // rounds in which nobody wants them
constexpr std::size_t many_answers = 16'384;                         // are not kept for so long
constexpr std::chrono::seconds patience_at_the_end{1};

struct SmallestFirst {
    bool operator()(const FileIdentity& a, const FileIdentity& b) const
    {
        return std::tie(a.size, a) < std::tie(b.size, b);
    }
};

} // namespace

// Shared with the thread, which may outlive the owner.
struct FileDigests::Work {
    struct Wanted {
        std::set<DigestWay> ways;   // of the round in which it was wanted the last time
        std::uint64_t in_round = 0; // which that is
    };
    struct Answer {
        std::optional<std::string> digest;
        std::uint64_t in_round = 0;
    };
    using Files = std::map<FileIdentity, Wanted, SmallestFirst>;

    [[nodiscard]] Wanted* find(const FileIdentity& file)
    {
        const auto party = party_of.find(file);
        return party == party_of.end() ? nullptr : &unread.at(party->second).at(file);
    }
    void remove(const FileIdentity& file)
    {
        const auto party = party_of.extract(file);
        if (!party)
            return;
        const auto files = unread.find(party.mapped());
        files->second.erase(file);
        if (files->second.empty())
            unread.erase(files);
    }
    [[nodiscard]] bool has_of_root() const { return unread.contains(root); }
    [[nodiscard]] bool has_of_others() const { return unread.size() > (has_of_root() ? 1 : 0); }

    std::mutex mutex;
    std::condition_variable changed;
    std::map<Party, Files> unread; // none is empty
    std::map<FileIdentity, Party> party_of;
    std::map<FileIdentity, Answer> answers;
    std::uint64_t round = 0; // calls of forget_unwanted()
    bool awaited = false;
    std::atomic<bool> left = false; // nobody wants anything any more
    bool ended = false;             // the thread has
};

class FileDigests::Reader {
public:
    explicit Reader(std::shared_ptr<Work> work) : work_(std::move(work)) {}

    void run()
    {
        std::unique_lock lock(work_->mutex);
        while (!work_->left)
            try {
                turn(lock);
            } catch (const std::bad_alloc&) {
                if (!lock.owns_lock())
                    lock.lock();
                work_->changed.wait_for(lock, std::chrono::seconds(1));
            }
        lock.unlock();
        under_way_.clear();
        lock.lock();
        work_->ended = true;
        work_->changed.notify_all();
    }

private:
    // What is opened, read and closed without the lock, since that can take long.
    struct UnderWay {
        FileIdentity file;
        DigestWay way;
        std::unique_ptr<Digestion> digestion{};
    };

    void turn(std::unique_lock<std::mutex>& lock)
    {
        leave_unwanted(lock);
        if (work_->unread.empty()) {
            work_->changed.wait(lock, [this] { return work_->left || !work_->unread.empty(); });
        } else if (work_->has_of_root() && (of_root_in_a_row_ < turns_of_root || !work_->has_of_others())) {
            ++of_root_in_a_row_;
            read_for(root, lock);
        } else {
            of_root_in_a_row_ = 0;
            last_ = after_last();
            const auto begun = std::chrono::steady_clock::now();
            read_for(last_, lock);
            const auto took = std::chrono::steady_clock::now() - begun;
            work_->changed.wait_for(lock, took * pause_per_turn,
                                    [this] { return work_->left || work_->awaited || work_->has_of_root(); });
        }
    }

    // The party whose turn it is. Root's is the least of all.
    [[nodiscard]] Party after_last() const
    {
        const auto next = [this](const auto& parties) {
            const auto found = parties.upper_bound(last_);
            return found != parties.end() ? found->first : parties.upper_bound(root)->first;
        };
        return under_way_.size() < at_a_time ? next(work_->unread) : next(under_way_);
    }

    void leave_unwanted(std::unique_lock<std::mutex>& lock)
    {
        std::vector<UnderWay> over;
        for (auto at = under_way_.begin(); at != under_way_.end();) {
            const auto party = work_->party_of.find(at->second.file);
            if (party != work_->party_of.end() && party->second == at->first) {
                ++at;
                continue;
            }
            over.push_back(std::move(at->second));
            at = under_way_.erase(at);
        }
        if (over.empty())
            return;
        lock.unlock();
        over.clear();
        lock.lock();
    }

    void read_for(const Party& party, std::unique_lock<std::mutex>& lock)
    {
        auto at = under_way_.find(party);
        if (at == under_way_.end()) {
            const auto& [file, wanted] = *work_->unread.at(party).begin();
            at = under_way_.emplace(party, UnderWay{file, *wanted.ways.begin()}).first;
        }
        auto& reading = at->second;
        lock.unlock();
        if (!reading.digestion)
            reading.digestion = std::make_unique<Digestion>(reading.file, reading.way);
        const bool all = reading.digestion->read_on(work_->left);
        std::optional<std::string> digest;
        if (all) {
            digest = reading.digestion->digest();
            reading.digestion.reset();
        }
        lock.lock();
        if (all && !goes_another_way(reading, digest))
            under_way_.erase(at);
    }

    // Else there is an answer, if anybody still wants one.
    bool goes_another_way(UnderWay& reading, std::optional<std::string>& digest)
    {
        const auto* wanted = work_->find(reading.file);
        if (wanted == nullptr)
            return false;
        if (const auto next = wanted->ways.upper_bound(reading.way); !digest && next != wanted->ways.end()) {
            reading.way = *next;
            return true;
        }
        work_->answers[reading.file] = {std::move(digest), wanted->in_round};
        work_->remove(reading.file);
        work_->changed.notify_all();
        return false;
    }

    std::shared_ptr<Work> work_;
    std::map<Party, UnderWay> under_way_;
    Party last_ = root;
    unsigned of_root_in_a_row_ = 0;
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

void FileDigests::want(const FileIdentity& file, const std::string& path, const std::string& mountinfo,
                       const Party& whose)
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
    Work::Wanted wanted;
    if (auto* before = work_->find(file); before != nullptr && before->in_round == work_->round)
        wanted = std::move(*before);
    const auto before = work_->party_of.find(file);
    const auto party = before != work_->party_of.end() && whose != root ? before->second : whose;
    work_->remove(file);
    wanted.ways.insert({path, mountinfo});
    wanted.in_round = work_->round;
    work_->unread[party][file] = std::move(wanted);
    work_->party_of[file] = party;
    work_->changed.notify_all();
}

void FileDigests::wait(std::chrono::milliseconds at_most)
{
    const auto now = std::chrono::steady_clock::now();
    std::unique_lock lock(work_->mutex);
    work_->awaited = true;
    work_->changed.notify_all();
    work_->changed.wait_until(lock, now + at_most / others_share_of_wait, [this] { return work_->unread.empty(); });
    work_->changed.wait_until(lock, now + at_most, [this] { return !work_->has_of_root(); });
    work_->awaited = false;
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
    return work_->party_of.contains(file);
}

void FileDigests::forget_unwanted()
{
    const std::lock_guard lock(work_->mutex);
    ++work_->round;
    const auto since = [this](const auto& entry) { return work_->round - entry.second.in_round; };
    const auto kept_for = work_->answers.size() > many_answers ? unread_kept_for : answers_kept_for;
    std::erase_if(work_->answers, [&](const auto& entry) { return since(entry) > kept_for; });
    for (auto party = work_->unread.begin(); party != work_->unread.end();) {
        std::erase_if(party->second, [&](const auto& entry) {
            const bool unwanted = since(entry) > unread_kept_for;
            if (unwanted)
                work_->party_of.erase(entry.first);
            return unwanted;
        });
        party = party->second.empty() ? work_->unread.erase(party) : std::next(party);
    }
}

} // namespace bulkhead::agent
