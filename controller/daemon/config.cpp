// SPDX-License-Identifier: Apache-2.0
#include "controller/daemon/config.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>
#include <sstream>

namespace bulkhead::controller {
namespace {

constexpr std::string_view sqlite_prefix = "sqlite:";

class DocumentStart final : public YAML::EventHandler {
public:
    void OnDocumentStart(const YAML::Mark& mark) override { at = mark; }
    void OnDocumentEnd() override {}
    void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
    void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
    void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
    void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnSequenceEnd() override {}
    void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
    void OnMapEnd() override {}

    YAML::Mark at;
};

// YAML::Load() ignores what follows the first document, and YAML::LoadAll() of yaml-cpp 0.7 never ends at a stray ','.
std::optional<YAML::Mark> second_document(const std::string& text)
{
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    DocumentStart start;
    if (parser.HandleNextDocument(start) && parser.HandleNextDocument(start))
        return start.at;
    return std::nullopt;
}

class ConfigReader {
public:
    ConfigReader(const std::string& file, ControllerConfig& config) : file_(file), config_(config) {}

    void read(const YAML::Node& root)
    {
        if (root.IsNull())
            return;
        if (!root.IsMap()) {
            note(root.Mark(), "a mapping is expected", "write `key: value` lines");
            return;
        }
        std::set<std::string> seen;
        for (const auto& entry : root) {
            const auto key = entry.first.Scalar();
            if (!seen.insert(key).second)
                note(entry.first.Mark(), fmt::format("'{}' is given twice", key), "remove one of them");
            else if (entry.second.IsScalar())
                set(key, entry.second.Scalar(), entry.first.Mark(), entry.second.Mark());
            else if (known(key))
                note(entry.second.Mark(), fmt::format("'{}' is one value", key), "write it as text");
            else
                unknown(key, entry.first.Mark());
        }
    }

    void note(const YAML::Mark& mark, const std::string& message, const std::string& mend)
    {
        errors_ += fmt::format("{}{}:{}:{}: error: {}\n    mend: {}", errors_.empty() ? "" : "\n", file_, mark.line + 1,
                               mark.column + 1, message, mend);
    }
    [[nodiscard]] const std::string& errors() const { return errors_; }

private:
    static bool known(const std::string& key)
    {
        return key == "state_dir" || key == "grpc_listen" || key == "store" || key == "log_level";
    }

    void unknown(const std::string& key, const YAML::Mark& mark)
    {
        note(mark, fmt::format("unknown key '{}'", key), "use state_dir, grpc_listen, store, log_level");
    }

    void set(const std::string& key, const std::string& value, const YAML::Mark& key_mark, const YAML::Mark& mark)
    {
        if (!known(key)) {
            unknown(key, key_mark);
        } else if (value.empty()) {
            note(mark, fmt::format("'{}' is empty", key), "give it a value or remove it");
        } else if (key == "state_dir") {
            config_.state_dir = value;
        } else if (key == "store") {
            if (!value.starts_with(sqlite_prefix) || value.size() == sqlite_prefix.size())
                note(mark, fmt::format("'{}' is no store", value), "write sqlite:PATH");
            config_.store = value;
        } else if (key == "grpc_listen") {
            if (!parse_listen_address(value))
                note(mark, fmt::format("'{}' is no ADDRESS:PORT", value), "write 0.0.0.0:7443 or [::]:7443");
            config_.grpc_listen = value;
        } else if (const auto level = parse_log_level(value)) {
            config_.log_level = *level;
        } else {
            note(mark, fmt::format("'{}' is no log level", value), "use error, warning, info or debug");
        }
    }

    const std::string& file_;
    ControllerConfig& config_;
    std::string errors_;
};

} // namespace

Result<ControllerConfig> parse_config(const std::string& file, const std::string& text, ControllerConfig config)
{
    ConfigReader reader(file, config);
    try {
        if (const auto second = second_document(text))
            reader.note(*second, "a second document", "write one document");
        else
            reader.read(YAML::Load(text));
    } catch (const YAML::Exception& error) {
        reader.note(error.mark.is_null() ? YAML::Mark() : error.mark, error.msg, "write it as YAML");
    }
    if (!reader.errors().empty())
        return fail(ErrorKind::invalid, "{}", reader.errors());
    return config;
}

std::optional<ListenAddress> parse_listen_address(const std::string& text)
{
    const auto colon = text.rfind(':');
    if (colon == std::string::npos)
        return std::nullopt;
    ListenAddress address{text.substr(0, colon), text.substr(colon + 1)};
    if (address.host.starts_with('[') && address.host.ends_with(']'))
        address.host = address.host.substr(1, address.host.size() - 2);
    else if (address.host.find(':') != std::string::npos)
        return std::nullopt;
    const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
    if (address.host.empty() || address.port.empty() || address.port.size() > 5 ||
        !std::all_of(address.port.begin(), address.port.end(), is_digit) || std::stoul(address.port) > 65535)
        return std::nullopt;
    return address;
}

std::string database_path(const ControllerConfig& config)
{
    return config.store.empty() ? config.state_dir + "/controller.db" : config.store.substr(sqlite_prefix.size());
}

Status validate(const ControllerConfig& config)
{
    if (!parse_listen_address(config.grpc_listen))
        return tl::unexpected<Error>(Error{ErrorKind::invalid,
                                           fmt::format("'{}' is no ADDRESS:PORT", config.grpc_listen),
                                           "write 0.0.0.0:7443 or [::]:7443"});
    if (!config.store.empty() && (!config.store.starts_with(sqlite_prefix) || database_path(config).empty()))
        return tl::unexpected<Error>(
            Error{ErrorKind::invalid, fmt::format("'{}' is no store", config.store), "write sqlite:PATH"});
    if (config.state_dir.empty() || config.state_dir.front() != '/')
        return tl::unexpected<Error>(Error{ErrorKind::invalid,
                                           fmt::format("the state folder '{}' is no absolute path", config.state_dir),
                                           "begin it with /"});
    return {};
}

} // namespace bulkhead::controller
