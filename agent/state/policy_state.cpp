// SPDX-License-Identifier: Apache-2.0
#include "agent/state/policy_state.h"

#include "agent/state/atomic_file.h"

#include <openssl/sha.h>

#include <cerrno>
#include <cstdio>
#include <string_view>
#include <unistd.h>

namespace bulkhead::agent {
namespace {

constexpr std::string_view magic = "BHPOL1\n";
constexpr const char* current_name = "policy.pb";
constexpr const char* next_name = "policy.next.pb";

void put_number(std::string& out, std::uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; ++i)
        out += static_cast<char>(static_cast<unsigned char>(value >> (8 * i)));
}

void put_block(std::string& out, const std::string& block)
{
    put_number(out, block.size(), 4);
    out += block;
}

// Takes little-endian numbers and counted blocks from the front; `ok` falls at the first that is not there.
struct Reader {
    std::string_view rest;
    bool ok = true;

    std::uint64_t number(unsigned bytes)
    {
        if (rest.size() < bytes)
            ok = false;
        if (!ok)
            return 0;
        std::uint64_t value = 0;
        for (unsigned i = 0; i < bytes; ++i)
            value |= static_cast<std::uint64_t>(static_cast<unsigned char>(rest[i])) << (8 * i);
        rest.remove_prefix(bytes);
        return value;
    }
    std::string block()
    {
        const auto size = number(4);
        if (size > rest.size())
            ok = false;
        if (!ok)
            return {};
        std::string value(rest.substr(0, size));
        rest.remove_prefix(size);
        return value;
    }
};

std::string digest_of(std::string_view bytes)
{
    std::string digest(SHA256_DIGEST_LENGTH, '\0');
    std::array<unsigned char, SHA256_DIGEST_LENGTH> raw{};
    const std::vector<unsigned char> input(bytes.begin(), bytes.end());
    ::SHA256(input.data(), input.size(), raw.data());
    std::copy(raw.begin(), raw.end(), digest.begin());
    return digest;
}

tl::unexpected<Error> damaged(std::string_view why)
{
    return fail(ErrorKind::invalid, "{}", why);
}

} // namespace

std::string encode(const SavedPolicy& policy)
{
    std::string out(magic);
    put_number(out, static_cast<std::uint8_t>(policy.source), 1);
    put_number(out, policy.kernel_generation, 4);
    put_block(out, policy.boot_id);
    put_block(out, wire::snapshot_of(policy.state).SerializeAsString());
    policy::HostPolicy failsafes;
    failsafes.rules = policy.failsafes;
    put_block(out, wire::to_wire(failsafes).SerializeAsString());
    return out + digest_of(out);
}

Result<SavedPolicy> decode_saved_policy(const std::string& bytes)
{
    if (bytes.size() < magic.size() + SHA256_DIGEST_LENGTH || std::string_view(bytes).substr(0, magic.size()) != magic)
        return damaged("not a policy file of this version");
    const std::string_view body = std::string_view(bytes).substr(0, bytes.size() - SHA256_DIGEST_LENGTH);
    if (digest_of(body) != std::string_view(bytes).substr(body.size()))
        return damaged("its checksum does not match");
    Reader reader{body.substr(magic.size())};
    SavedPolicy saved;
    const auto source = reader.number(1);
    saved.kernel_generation = static_cast<std::uint32_t>(reader.number(4));
    saved.boot_id = reader.block();
    v1::PolicyUpdate update;
    v1::HostPolicy failsafes;
    const bool parsed = update.ParseFromString(reader.block()) && failsafes.ParseFromString(reader.block());
    if (!reader.ok || !reader.rest.empty() || !parsed || source > static_cast<std::uint8_t>(PolicySource::controller))
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
    return loaded;
}

std::optional<SavedPolicy> PolicyState::load_file(const std::string& name, std::vector<std::string>& damage)
{
    const std::string path = dir_ + "/" + name;
    const auto bytes = read_file_if_there(path);
    if (!bytes) {
        damage.push_back(bytes.error().message);
        return std::nullopt;
    }
    if (!*bytes)
        return std::nullopt;
    auto saved = decode_saved_policy(**bytes);
    if (saved)
        return std::move(*saved);
    const std::string aside = path + ".damaged";
    const bool moved = ::rename(path.c_str(), aside.c_str()) == 0;
    damage.push_back(fmt::format("{}: {}; {}", path, saved.error().message,
                                 moved ? "set aside as " + aside : "and it cannot be set aside"));
    return std::nullopt;
}

Status PolicyState::prepare(const SavedPolicy& policy)
{
    return write_file_atomically(dir_ + "/" + next_name, encode(policy), 0600);
}

Status PolicyState::commit()
{
    const std::string from = dir_ + "/" + next_name;
    if (::rename(from.c_str(), (dir_ + "/" + current_name).c_str()) != 0)
        return fail_errno(errno, "rename " + from);
    return {};
}

void PolicyState::discard()
{
    ::unlink((dir_ + "/" + next_name).c_str()); // a left-over names a generation that never was, and is ignored
}

} // namespace bulkhead::agent
