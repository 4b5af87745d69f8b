// SPDX-License-Identifier: Apache-2.0
#include "cli/peers/context_file.h"

#include "common/core/clock.h"
#include "common/tls/tls.h"

#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <sstream>

namespace bulkhead::cli {
namespace {

tl::unexpected<Error> invalid(const std::string& path, const YAML::Mark& mark, std::string_view why)
{
    auto where = mark.is_null() ? path : fmt::format("{}:{}:{}", path, mark.line + 1, mark.column + 1);
    return tl::unexpected(Error{ErrorKind::invalid, fmt::format("{}: {}", where, why),
                                "the controller writes a whole context file to admin.yaml in its state folder"});
}

Result<std::string> read_text(const std::string& path)
{
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        const int cause = errno;
        auto error = fail_errno(cause, fmt::format("context file {}", path));
        error.value().kind = ErrorKind::invalid;
        error.value().mend =
            cause == EACCES ? "it holds a private key and belongs to its owner: run as that user"
                            : "name one with --config FILE or BULKHEAD_CONFIG; the controller's first start writes "
                              "admin.yaml into its state folder";
        return error;
    }
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

std::string member(const YAML::Node& node, const char* key)
{
    const auto value = node[key];
    return value && value.IsScalar() ? value.as<std::string>() : std::string{};
}

Result<ControllerContext> choose(const std::string& path, const YAML::Node& root)
{
    if (!root.IsMap() || !root["contexts"] || !root["contexts"].IsSequence())
        return invalid(path, root.Mark(), "no list of contexts");
    const auto current = member(root, "current");
    for (const auto& entry : root["contexts"]) {
        if (!entry.IsMap() || member(entry, "name") != current)
            continue;
        ControllerContext context{member(entry, "name"), member(entry, "controller"), member(entry, "ca"),
                                  member(entry, "certificate"), member(entry, "key")};
        if (context.controller.empty() || context.ca.empty() || context.certificate.empty() || context.key.empty())
            return invalid(path, entry.Mark(), "a context needs controller, ca, certificate and key");
        for (const auto& [what, pem] : {std::pair("ca", &context.ca), std::pair("certificate", &context.certificate)}) {
            const auto facts = tls::inspect_certificate(*pem);
            if (!facts)
                return invalid(path, entry.Mark(), fmt::format("{}: {}", what, facts.error().message));
            if (facts->not_after < std::chrono::system_clock::now())
                return invalid(path, entry.Mark(),
                               fmt::format("{}: expired at {}", what, format_rfc3339(facts->not_after)));
        }
        return context;
    }
    return invalid(path, root.Mark(), fmt::format("no context is named '{}' (current)", current));
}

} // namespace

std::string default_context_path()
{
    if (const char* named = std::getenv("BULKHEAD_CONFIG"); named != nullptr && *named != '\0')
        return named;
    if (const char* base = std::getenv("XDG_CONFIG_HOME"); base != nullptr && *base != '\0')
        return std::string(base) + "/bulkhead/config.yaml";
    if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0')
        return std::string(home) + "/.config/bulkhead/config.yaml";
    return {};
}

Result<ControllerContext> read_context(const std::string& path)
{
    BULKHEAD_TRY(const auto text, read_text(path));
    try {
        return choose(path, YAML::Load(text));
    } catch (const YAML::Exception& exception) {
        return invalid(path, exception.mark, exception.msg);
    }
}

} // namespace bulkhead::cli
