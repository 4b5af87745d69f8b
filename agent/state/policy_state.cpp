// SPDX-License-Identifier: Apache-2.0
#include "agent/state/policy_state.h"

#include "agent/state/atomic_file.h"
#include "agent/state/authority.h"
#include "agent/state/sealed_bytes.h"

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

constexpr std::string_view magic = "BHPOL3\n";
constexpr std::string_view magic_without_signature = "BHPOL2\n";
constexpr std::string_view magic_without_trials = "BHPOL1\n";
constexpr const char* current_name = "policy.pb";
constexpr const char* next_name = "policy.next.pb";
constexpr const char* trial_name = "policy.trial.pb";
constexpr const char* previous_name = "policy.previous.pb";

tl::unexpected<Error> damaged(std::string_view why)
{
    return fail(ErrorKind::invalid, "{}", why);
}

} // namespace

std::optional<PolicyState::Edition> PolicyState::edition_of(const std::optional<SavedPolicy>& saved)
{
    if (!saved)
        return std::nullopt;
    return Edition{saved->source, saved->state.policy_version, saved->state.generation};
}

// A policy without a signature, a folder's or one from before there were any, keeps the format that has no place for
// it. So none can be lost from the newer one.
std::string encode(const SavedPolicy& policy)
{
    std::string out(policy.signature.empty() ? magic_without_signature : magic);
    put_number(out, static_cast<std::uint8_t>(policy.source), 1);
    put_number(out, policy.kernel_generation, 4);
    put_block(out, policy.boot_id);
    put_block(out, wire::snapshot_of(policy.state).SerializeAsString());
    policy::HostPolicy failsafes;
    failsafes.rules = policy.failsafes;
    put_block(out, wire::to_wire(failsafes).SerializeAsString());
    put_number(out, policy.until ? static_cast<std::uint64_t>(policy.until->count()) : 0, 8);
    if (!policy.signature.empty())
        put_block(out, policy.signature);
    return seal(std::move(out));
}

Result<SavedPolicy> decode_saved_policy(const std::string& bytes)
{
    const auto opening = std::string_view(bytes).substr(0, magic.size());
    const bool with_signature = opening == magic;
    const bool with_trials = with_signature || opening == magic_without_signature;
    if (!with_trials && opening != magic_without_trials)
        return damaged("not a policy file of this version");
    const auto body = unseal(bytes);
    if (!body || body->size() < magic.size())
        return damaged("its checksum does not match");
    SealedReader reader{body->substr(magic.size())};
    SavedPolicy saved;
    const auto source = reader.number(1);
    saved.kernel_generation = static_cast<std::uint32_t>(reader.number(4));
    saved.boot_id = reader.block();
    v1::PolicyUpdate update;
    v1::HostPolicy failsafes;
    const bool parsed = update.ParseFromString(reader.block()) && failsafes.ParseFromString(reader.block());
    if (const auto until = with_trials ? reader.number(8) : 0; until != 0)
        saved.until = MonotonicTime(until);
    if (with_signature)
        saved.signature = reader.block();
    if (!reader.ok || !reader.rest.empty() || !parsed || with_signature == saved.signature.empty() ||
        source > static_cast<std::uint8_t>(PolicySource::controller))
        return damaged("its contents are malformed");
    saved.source = static_cast<PolicySource>(source);
    BULKHEAD_TRY(saved.state, wire::apply_update({}, update));
    BULKHEAD_TRY(auto host_policy, wire::from_wire(failsafes));
    saved.failsafes = std::move(host_policy.rules);
    return saved;
}

Result<PolicyState::Loaded> PolicyState::load()
{
    Loaded loaded;
    loaded.current = load_file(current_name, loaded.damage);
    loaded.next = load_file(next_name, loaded.damage);
    loaded.trial = load_file(trial_name, loaded.damage);
    current_ = edition_of(loaded.current);
    next_ = edition_of(loaded.next);
    trial_ = edition_of(loaded.trial);
    return loaded;
}

std::optional<SavedPolicy> PolicyState::load_previous(std::vector<std::string>& damage)
{
    return load_file(previous_name, damage);
}

std::optional<SavedPolicy> PolicyState::load_file(const std::string& name, std::vector<std::string>& damage)
{
    const std::string path = dir_ + "/" + name;
    const auto bytes = read_file_if_there(path);
    if (bytes && !*bytes)
        return std::nullopt;
    auto saved = bytes ? decode_saved_policy(**bytes) : tl::unexpected(bytes.error());
    if (saved && !saved->signature.empty()) {
        const auto verified = verify_saved_policy(dir_, saved->state, saved->signature);
        // Without the certificate nobody can tell, and a host that enforces nothing is worse.
        if (!verified && verified.error().kind != ErrorKind::refused)
            damage.push_back(
                fmt::format("{}: used, though its signature cannot be verified: {}", path, verified.error().message));
        else if (!verified)
            saved = damaged("it is not signed by the authority of this host's controller");
    }
    if (saved)
        return std::move(*saved);
    // A file that is only not ours to read is still whole, and the next policy takes its place; a folder would stay.
    std::error_code ignored;
    const bool in_the_way = bytes || std::filesystem::is_directory(path, ignored);
    damage.push_back(
        fmt::format("{}: {}; {}", path, saved.error().message, in_the_way ? set_aside(path) : "it stays where it is"));
    return std::nullopt;
}

Status PolicyState::prepare(const SavedPolicy& policy)
{
    next_ = edition_of(policy);
    return write_file_atomically(dir_ + "/" + next_name, encode(policy), 0600);
}

Status PolicyState::rename(const char* from, const char* to) const
{
    const std::string path = dir_ + "/" + from;
    if (::rename(path.c_str(), (dir_ + "/" + to).c_str()) != 0)
        return fail_errno(errno, "rename " + path);
    return sync_folder(dir_); // the controller is told that this policy is in force: a power cut must not take it back
}

// The old file gets a second name before it loses its first, so at no moment is there neither. Where that cannot be
// done (no room, no hard links) there is only no spare. What is written again, as at every boot, is no spare for itself.
Status PolicyState::replace_current(const char* by, const std::optional<Edition>& edition)
{
    const std::string current = dir_ + "/" + current_name;
    const std::string spare = dir_ + "/" + previous_name;
    const std::string temporary = spare + ".tmp";
    if (!edition || edition != current_) {
        ::unlink(temporary.c_str());
        if (::link(current.c_str(), temporary.c_str()) == 0 && ::rename(temporary.c_str(), spare.c_str()) != 0)
            ::unlink(temporary.c_str());
    }
    BULKHEAD_CHECK(rename(by, current_name));
    current_ = edition;
    return {};
}

Status PolicyState::commit()
{
    return replace_current(next_name, next_);
}

Status PolicyState::commit_trial()
{
    BULKHEAD_CHECK(rename(next_name, trial_name));
    trial_ = next_;
    return {};
}

Status PolicyState::confirm_trial()
{
    return replace_current(trial_name, trial_);
}

void PolicyState::drop_trial()
{
    ::unlink((dir_ + "/" + trial_name).c_str()); // a left-over is not in force, and is dropped at the next start
}

void PolicyState::discard()
{
    ::unlink((dir_ + "/" + next_name).c_str()); // a left-over names a generation that never was, and is ignored
}

} // namespace bulkhead::agent
