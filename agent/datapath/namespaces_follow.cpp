// SPDX-License-Identifier: Apache-2.0
// Namespaces: which are followed, and how much work those who make them can cause.
#include "agent/datapath/in_namespace.h"
#include "agent/datapath/namespace_links.h"
#include "agent/datapath/namespaces.h"

#include <algorithm>
#include <utility>

namespace bulkhead::agent {

namespace {

using namespace std::chrono_literals;

constexpr auto told_is_old = 2s;                   // longer than the kernel waits before it tells again
constexpr std::size_t looked_at_in_a_round = 4096; // threads and descriptors of processes
constexpr auto round_time = 5ms;

NamespaceHolder holder_of(const NamespaceHint& hint)
{
    return {static_cast<int>(hint.pid), static_cast<int>(hint.tid), -1, hint.user};
}

} // namespace

NamespaceChange Namespaces::follow(std::chrono::milliseconds patience)
{
    given_up_now_ = 0;
    let_go();
    if (!given_up_.empty())
        forget_conversations(std::exchange(given_up_, {}));
    const Present present = look_everywhere(patience);
    for (auto& [inode, followed] : followed_) // a sweep that takes long may know of processes that have ended
        if (const auto holder = present.find(inode); holder != present.end() && !open_namespace(inode, followed.holder))
            followed.holder = holder->second;
    mend(); // first: what was detached is not dead
    forget_dead(present, true);
    take_in_present(present, patience);
    forget_told(told_is_old);
    follow_addresses(Slice(max_steps, patience));
    look_for_holders();
    return {take_came(), take_trouble(), !search_.idle()};
}

// One without a process of the cgroup is everybody's, so that a mount says only something where all are enforced.
Namespaces::Present Namespaces::look_everywhere(std::chrono::milliseconds patience)
{
    Slice slice(max_steps, patience);
    sweep_.go_on(slice);
    auto present = sweep_.found();
    if (mounted_)
        for (const auto& [inode, place] : mounted_->now())
            present[inode].mount = place;
    present.erase(own_inode_);
    empty_.clear();
    for (const auto& [inode, holder] : present)
        if (holder.pid == 0)
            empty_.insert(inode);
    return present;
}

NamespaceChange Namespaces::follow(std::span<const NamespaceHint> hints)
{
    Present told;
    given_up_now_ = 0;
    let_go();
    for (const auto& hint : hints) {
        told[hint.inode] = holder_of(hint);
        empty_.erase(hint.inode); // something hears in it
    }
    for (const auto& [inode, holder] : told)
        if (const auto known = followed_.find(inode);
            known != followed_.end() && !open_namespace(inode, known->second.holder))
            known->second.holder = holder;
    if (!told.empty()) {
        mend();
        forget_dead(told, false);
    }
    for (const auto& hint : hints) // also several of one number, of which all but one may be of the dead
        take_in_hinted(hint);
    look_for_holders();
    tell_addresses();
    return {take_came(), {}, !search_.idle()}; // trouble is told once a second, whoever causes it
}

bool Namespaces::has_room_for(std::uint32_t inode)
{
    if (followed_.size() < BH_NAMESPACES)
        return true;
    if (!empty_.contains(inode) && empty_places() > 0)
        return true;
    turned_away_.for_all.insert(inode);
    return false;
}

std::size_t Namespaces::empty_places() const
{
    return static_cast<std::size_t>(
        std::count_if(empty_.begin(), empty_.end(), [this](std::uint32_t one) { return followed_.contains(one); }));
}

// One in which nothing runs and nothing hears. What comes into it later takes its place like any other.
bool Namespaces::give_up_an_empty_one()
{
    const int rows = bpf_map__fd(skeleton_->maps.bh_namespaces);
    auto it = empty_.upper_bound(tried_last_); // not again and again the same, in which something hears
    for (std::size_t left = empty_.size(); left > 0 && given_up_now_ < given_up_at_once; --left, ++it) {
        if (it == empty_.end())
            it = empty_.begin();
        const std::uint32_t inode = *it;
        const auto followed = followed_.find(inode);
        if (followed == followed_.end())
            continue;
        ++given_up_now_; // a try is what takes long
        tried_last_ = inode;
        bh_namespace row{};
        (void)bpf_map_lookup_elem(rows, &inode, &row);
        (void)bpf_map_delete_elem(rows, &inode); // first: who hears there from now on is told of
        if (is_heard_in(inode)) {
            (void)bpf_map_update_elem(rows, &inode, &row, BPF_ANY);
            continue;
        }
        followed_.erase(followed);
        (void)::unlink(pin_of(inode).c_str());
        given_up_.insert(inode);
        return true;
    }
    return false;
}

bool Namespaces::is_heard_in(std::uint32_t inode) const
{
    const int listeners = bpf_map__fd(skeleton_->maps.bh_listeners);
    bh_listener_key key{}, next{};
    for (const bh_listener_key* previous = nullptr; bpf_map_get_next_key(listeners, previous, &next) == 0;
         previous = &key) {
        key = next;
        if (key.netns == inode)
            return true;
    }
    return false;
}

bool Namespaces::has_room_for_user(std::uint32_t inode, int netns)
{
    const auto user = user_behind_namespace(netns);
    const auto is_of_user = [&](const auto& one) { return one.second.user == user; };
    if (!user ||
        std::count_if(followed_.begin(), followed_.end(), is_of_user) < static_cast<std::ptrdiff_t>(of_one_user))
        return true;
    turned_away_.for_user.insert(inode);
    turned_away_.user = *user;
    return false;
}

void Namespaces::take_in(std::uint32_t inode, const NamespaceHolder& holder, int netns)
{
    if (!has_room_for(inode) || !has_room_for_user(inode, netns))
        return;
    if (followed_.size() >= BH_NAMESPACES && !give_up_an_empty_one()) {
        turned_away_.for_all.insert(inode);
        return;
    }
    if (auto attached = attach(inode, holder, netns); !attached) {
        note_trouble(std::move(attached), fmt::format("follow network namespace {}", inode));
        return;
    }
    stood_open_.insert(inode);
    ask_addresses(inode, netns);
}

void Namespaces::take_in_present(const Present& present, std::chrono::milliseconds patience)
{
    if (program_ == 0 && !present.empty())
        (void)give_program(); // once, and it takes longer than many gates; who is taken in says if it fails
    Slice slice(max_steps, patience);
    auto it = present.upper_bound(taken_in_last_);
    for (std::size_t left = present.size(); left > 0; --left, ++it) {
        if (it == present.end())
            it = present.begin();
        const auto& [inode, holder] = *it;
        if (followed_.contains(inode) || (empty_.contains(inode) && empty_places() >= of_one_user) ||
            !has_room_for(inode))
            continue;
        if (!slice.take())
            return;
        taken_in_last_ = inode;
        if (const UniqueFd netns = open_namespace(inode, holder)) // else it is gone again, or left
            take_in(inode, holder, netns.get());
    }
}

void Namespaces::take_in_hinted(const NamespaceHint& hint)
{
    if (hint.inode == own_inode_ || followed_.contains(hint.inode) || !has_room_for(hint.inode))
        return;
    const NamespaceHolder holder = holder_of(hint);
    if (const UniqueFd netns = open_namespace(hint.inode, holder))
        take_in(hint.inode, holder, netns.get());
    else if (!search_.want(hint.inode, holder))
        turned_away_.not_looked_for.insert(hint.inode);
}

void Namespaces::look_for_holders()
{
    Slice slice(looked_at_in_a_round, round_time);
    search_.go_on(slice, [this](std::uint32_t inode, const NamespaceHolder& holder) {
        if (const auto known = followed_.find(inode); known != followed_.end())
            known->second.holder = holder;
        else if (const UniqueFd netns = open_namespace(inode, holder))
            take_in(inode, holder, netns.get());
    });
}

std::vector<std::uint32_t> Namespaces::take_came()
{
    const auto came = std::exchange(stood_open_, {});
    return {came.begin(), came.end()};
}

void Namespaces::note_trouble(Status done, const std::string& where)
{
    if (!done && !trouble_)
        trouble_ = std::move(done).error().within(where);
}

std::optional<Error> Namespaces::take_trouble()
{
    auto trouble = std::exchange(trouble_, {});
    const auto away = std::exchange(turned_away_, {});
    std::string why;
    if (!away.for_all.empty())
        why = fmt::format("{} network namespaces of workloads are not followed: {} are, and there is no room for more",
                          away.for_all.size(), BH_NAMESPACES);
    else if (!away.for_user.empty())
        why =
            fmt::format("{} network namespaces of workloads are not followed: {} of user {} are, and one user gets no "
                        "more",
                        away.for_user.size(), of_one_user, away.user);
    else if (!away.not_looked_for.empty())
        why =
            fmt::format("{} network namespaces of workloads are not followed: {} of their user are looked for already",
                        away.not_looked_for.size(), HolderSearch::at_once);
    return why.empty() ? trouble : Error{ErrorKind::failed, std::move(why), {}};
}

// They are asked for, since a socket that hears of their changes would keep the namespace from ending. Of one that
// cannot be reached now, what was known stays.
void Namespaces::follow_addresses(Slice slice)
{
    std::erase_if(addresses_, [this](const auto& one) { return !followed_.contains(one.first); });
    auto it = followed_.upper_bound(asked_last_);
    for (std::size_t left = followed_.size(); left > 0 && slice.take(); --left, ++it) {
        if (it == followed_.end())
            it = followed_.begin();
        auto& [inode, followed] = *it;
        asked_last_ = inode;
        if (const UniqueFd netns = open_namespace(inode, followed.holder)) {
            followed.user = user_behind_namespace(netns.get()); // of one that an agent before us followed, too
            know_cookie(inode, netns.get());
            ask_addresses(inode, netns.get());
            continue;
        }
        look_for_holder(inode, followed); // and again in a second
    }
    tell_addresses();
}

void Namespaces::look_for_holder(std::uint32_t inode, const Followed& followed)
{
    NamespaceHolder holder = followed.holder;
    holder.user = followed.user.value_or(0);
    if (holder.pid > 0)
        (void)search_.want(inode, holder);
}

void Namespaces::ask_addresses(std::uint32_t inode, int netns)
{
    auto asked = in_namespace(netns, [&]() -> Status {
        BULKHEAD_TRY(auto links, namespace_links(guarded_netns_));
        past_guard_ = past_guard_ || links.past_guard;
        BULKHEAD_TRY(addresses_[inode], std::move(links.own));
        return {};
    });
    note_trouble(std::move(asked), fmt::format("addresses of network namespace {}", inode));
}

void Namespaces::tell_addresses()
{
    note_trouble(own_addresses_.set_elsewhere(addresses_), "addresses of network namespaces");
}

} // namespace bulkhead::agent
