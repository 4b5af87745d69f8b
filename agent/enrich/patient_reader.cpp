// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/patient_reader.h"

#include "common/core/unique_fd.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

namespace bulkhead::agent {

std::string read_bounded(const std::string& path, std::size_t limit)
{
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file)
        return {};
    std::string text(limit, '\0');
    std::size_t used = 0;
    while (used < limit) {
        const auto got = ::read(file.get(), text.data() + used, limit - used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        used += static_cast<std::size_t>(got);
    }
    text.resize(used);
    return text;
}

// How many readers whose files hold up.
struct PatientReader::HeldUp {
    std::mutex mutex;
    std::map<unsigned, std::size_t> by_user;

    std::size_t all() const
    {
        return std::accumulate(by_user.begin(), by_user.end(), std::size_t{0},
                               [](std::size_t sum, const auto& one) { return sum + one.second; });
    }
};

// One thread, which reads a file at a time. It outlives this class's owner where it is held up, so it shares all it
// uses.
class PatientReader::Reader : public std::enable_shared_from_this<Reader> {
public:
    explicit Reader(std::shared_ptr<HeldUp> held_up) : held_up_(std::move(held_up)) {}

    void start()
    {
        std::thread([self = shared_from_this()] { self->run(); }).detach();
    }

    struct Answer {
        std::string text;
        bool waited = false; // for something but a processor
    };
    // nullopt: it is held up, and ends by itself if ever it is let go.
    std::optional<Answer> read(const std::string& path, std::size_t limit, unsigned user,
                               std::chrono::milliseconds patience)
    {
        std::unique_lock lock(mutex_);
        path_ = path;
        limit_ = limit;
        user_ = user;
        begun_ = false;
        state_ = State::asked;
        changed_.notify_all();
        // Without a processor for so long the thread has not begun, or not gone on, which is nobody's doing.
        bool done = changed_.wait_for(lock, patience, [this] { return state_ == State::done; });
        for (int i = 0; i < 10 && !done && (!begun_ || wants_a_processor()); ++i)
            done = changed_.wait_for(lock, patience, [this] { return state_ == State::done; });
        if (done) {
            state_ = State::idle;
            return std::exchange(answer_, {});
        }
        state_ = State::given_up;
        const std::lock_guard held(held_up_->mutex);
        ++held_up_->by_user[user];
        return std::nullopt;
    }

    void leave()
    {
        const std::lock_guard lock(mutex_);
        if (state_ == State::idle)
            state_ = State::left;
        changed_.notify_all();
    }

private:
    enum class State { idle, asked, done, given_up, left };

    // Else it waits for something (proc(5), stat).
    [[nodiscard]] bool wants_a_processor() const
    {
        const auto line = read_bounded("/proc/self/task/" + std::to_string(thread_) + "/stat", 256);
        const auto name_end = line.rfind(')');
        return name_end != std::string::npos && line.compare(name_end, 3, ") R") == 0;
    }

    // How often this thread has slept. On a busy machine it waits for a processor, which is nobody's doing.
    static long waits()
    {
        rusage use{};
        return ::getrusage(RUSAGE_THREAD, &use) == 0 ? use.ru_nvcsw : 0;
    }

    void run()
    {
        std::unique_lock lock(mutex_);
        thread_ = ::gettid();
        while (true) {
            changed_.wait(lock, [this] { return state_ == State::asked || state_ == State::left; });
            if (state_ == State::left)
                return;
            const auto path = path_;
            const auto limit = limit_;
            begun_ = true;
            lock.unlock();
            const auto before = waits();
            Answer answer;
            try {
                answer.text = read_bounded(path, limit);
            } catch (const std::bad_alloc&) { // not read
            }
            answer.waited = waits() != before;
            lock.lock();
            if (state_ == State::given_up)
                break;
            answer_ = std::move(answer);
            state_ = State::done;
            changed_.notify_all();
        }
        const std::lock_guard held(held_up_->mutex);
        if (auto& count = held_up_->by_user[user_]; --count == 0)
            held_up_->by_user.erase(user_);
    }

    std::shared_ptr<HeldUp> held_up_;
    std::mutex mutex_;
    std::condition_variable changed_;
    State state_ = State::idle;
    bool begun_ = false; // to read what was asked for
    pid_t thread_ = 0;
    std::string path_;
    Answer answer_;
    std::size_t limit_ = 0;
    unsigned user_ = 0;
};

PatientReader::PatientReader(const Clock& clock, std::chrono::milliseconds patience)
    : clock_(clock), patience_(patience),
      waiting_(clock, {patience * for_one_user, patience * for_all, waiting_is_counted_for}),
      held_up_(std::make_shared<HeldUp>())
{}

PatientReader::~PatientReader()
{
    if (reader_)
        reader_->leave();
}

std::size_t PatientReader::held_up() const
{
    const std::lock_guard held(held_up_->mutex);
    return held_up_->all();
}

bool PatientReader::may_wait(unsigned user)
{
    if (!waiting_.has_some_for(user))
        return false;
    const std::lock_guard held(held_up_->mutex);
    const auto stuck = held_up_->by_user.find(user);
    return held_up_->all() < at_most && (stuck == held_up_->by_user.end() || stuck->second < of_one_user);
}

std::string PatientReader::read(const std::string& path, std::size_t limit, unsigned user)
{
    if (!may_wait(user))
        return {};
    auto reader = std::exchange(reader_, nullptr);
    if (!reader) {
        reader = std::make_shared<Reader>(held_up_);
        try {
            reader->start();
        } catch (const std::system_error&) { // no more threads
            return {};
        }
    }
    const auto begun = clock_.monotonic();
    auto answer = reader->read(path, limit, user, patience_);
    if (!answer || answer->waited)
        waiting_.spend(user, clock_.monotonic() - begun);
    if (!answer)
        return {};
    reader_ = std::move(reader);
    return std::move(answer->text);
}

} // namespace bulkhead::agent
