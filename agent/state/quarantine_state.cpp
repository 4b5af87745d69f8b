// SPDX-License-Identifier: Apache-2.0
#include "agent/state/quarantine_state.h"

#include "agent/state/atomic_file.h"
#include "agent/state/sealed_bytes.h"
#include "policy.pb.h"

#include <cerrno>
#include <cstdio>
#include <sys/stat.h>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

constexpr std::string_view magic = "BHQUA1\n";

std::string block_of(const std::optional<QuarantineHold>& hold)
{
    if (!hold)
        return {};
    v1::Quarantine message;
    message.set_by(hold->by);
    message.set_reason(hold->reason);
    message.set_since_us(hold->since_us);
    message.set_until_us(hold->until_us);
    return message.SerializeAsString();
}

bool read_hold(const std::string& block, std::optional<QuarantineHold>& hold)
{
    if (block.empty())
        return true;
    v1::Quarantine message;
    if (!message.ParseFromString(block))
        return false;
    hold = QuarantineHold{message.by(), message.reason(), message.since_us(), message.until_us()};
    return true;
}

} // namespace

std::string encode(const Quarantine& quarantine)
{
    std::string out(magic);
    put_block(out, block_of(quarantine.local));
    put_block(out, block_of(quarantine.controller));
    return seal(std::move(out));
}

Result<Quarantine> decode_quarantine(const std::string& bytes)
{
    const auto body = unseal(bytes);
    if (!body || !body->starts_with(magic))
        return fail(ErrorKind::invalid, "not a quarantine file of this version, or its checksum does not match");
    SealedReader reader{body->substr(magic.size())};
    const auto local = reader.block();
    const auto controller = reader.block();
    Quarantine quarantine;
    if (!reader.ok || !reader.rest.empty() || !read_hold(local, quarantine.local) ||
        !read_hold(controller, quarantine.controller))
        return fail(ErrorKind::invalid, "its contents are malformed");
    return quarantine;
}

Result<Quarantine> QuarantineState::load()
{
    const auto bytes = read_file_if_there(path_);
    if (bytes && !*bytes)
        return Quarantine{};
    auto quarantine = bytes ? decode_quarantine(**bytes) : tl::unexpected(bytes.error());
    if (quarantine)
        return quarantine;
    // Only what is seen to be there is damage: a folder that may not be looked into says nothing.
    if (struct stat found{}; !bytes && ::lstat(path_.c_str(), &found) != 0)
        return tl::unexpected(bytes.error());
    return fail(ErrorKind::invalid, "{}: {}; {}", path_, quarantine.error().message, set_aside(path_));
}

Status QuarantineState::save(const Quarantine& quarantine)
{
    if (quarantine.stands())
        return write_file_atomically(path_, encode(quarantine), 0600);
    if (::unlink(path_.c_str()) != 0 && errno != ENOENT)
        return fail_errno(errno, "remove " + path_);
    return {};
}

} // namespace bulkhead::agent
