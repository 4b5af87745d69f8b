// SPDX-License-Identifier: Apache-2.0
#include "cli/host/yaml_secrets.h"

#include "cli/host/secrets.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <map>
#include <set>
#include <sstream>
#include <vector>

namespace bulkhead::cli {
namespace {

using YAML::anchor_t;
using YAML::Mark;

// Writes a document from its events, without what is secret. An anchor whose alias is a secret is one, too; since that
// comes later, it is left out in the next round.
class SecretRemover final : public YAML::EventHandler {
public:
    SecretRemover(std::set<anchor_t>& secret, YAML::Emitter& out) : secret_(secret), out_(out) {}

    void OnDocumentStart(const Mark& /*mark*/) override {}
    void OnDocumentEnd() override {}
    void OnNull(const Mark& /*mark*/, anchor_t anchor) override
    {
        if (begin({}, anchor, false))
            out_ << YAML::Null;
        end_node();
    }
    void OnAlias(const Mark& /*mark*/, anchor_t anchor) override
    {
        if (shows(anchor, names_[anchor]))
            out_ << YAML::Alias(fmt::to_string(anchor));
        end_node();
    }
    void OnScalar(const Mark& /*mark*/, const std::string& tag, anchor_t anchor, const std::string& value) override
    {
        const bool is_name = names_a_secret(value);
        if (anchor != 0)
            names_[anchor] = is_name;
        if (begin(tag, anchor, is_name))
            out_ << value;
        end_node();
    }
    void OnSequenceStart(const Mark& /*mark*/, const std::string& tag, anchor_t anchor,
                         YAML::EmitterStyle::value style) override
    {
        if (open(tag, anchor, style, false))
            out_ << YAML::BeginSeq;
    }
    void OnMapStart(const Mark& /*mark*/, const std::string& tag, anchor_t anchor,
                    YAML::EmitterStyle::value style) override
    {
        if (open(tag, anchor, style, true))
            out_ << YAML::BeginMap;
    }
    void OnSequenceEnd() override
    {
        if (close())
            out_ << YAML::EndSeq;
        end_node();
    }
    void OnMapEnd() override
    {
        if (close())
            out_ << YAML::EndMap;
        end_node();
    }

private:
    struct Level {
        bool is_map = false;
        bool at_value = false, names_secret = false; // of a map: its key came
    };

    // Whether the node that begins here is written; else it was replaced.
    bool shows(anchor_t anchor, bool is_name)
    {
        bool secret = hidden_ > 0 || secret_.contains(anchor);
        if (hidden_ == 0 && !levels_.empty() && levels_.back().is_map) {
            if (levels_.back().at_value)
                secret = secret || levels_.back().names_secret;
            else
                levels_.back().names_secret = is_name;
        }
        if (secret && anchor != 0)
            secret_.insert(anchor);
        if (secret && hidden_ == 0)
            out_ << "[removed]";
        return !secret;
    }
    bool begin(const std::string& tag, anchor_t anchor, bool is_name)
    {
        if (!shows(anchor, is_name))
            return false;
        if (!tag.empty() && tag != "?" && tag != "!") // none, or none in quotes
            out_ << YAML::VerbatimTag(tag);
        if (anchor != 0)
            out_ << YAML::Anchor(fmt::to_string(anchor));
        return true;
    }
    bool open(const std::string& tag, anchor_t anchor, YAML::EmitterStyle::value style, bool is_map)
    {
        if (!begin(tag, anchor, false)) {
            ++hidden_;
            return false;
        }
        levels_.push_back({is_map});
        out_ << (style == YAML::EmitterStyle::Flow ? YAML::Flow : YAML::Block);
        return true;
    }
    bool close()
    {
        if (hidden_ > 0) {
            --hidden_;
            return false;
        }
        levels_.pop_back();
        return true;
    }
    void end_node()
    {
        if (hidden_ == 0 && !levels_.empty())
            levels_.back().at_value = !levels_.back().at_value;
    }

    std::set<anchor_t>& secret_;
    YAML::Emitter& out_;
    std::vector<Level> levels_; // that are written
    std::size_t hidden_ = 0;    // levels that are not
    std::map<anchor_t, bool> names_;
};

} // namespace

Result<std::string> yaml_without_secrets(const std::string& text)
{
    constexpr int most_rounds = 16;
    std::set<anchor_t> secret;
    for (int round = 0; round < most_rounds; ++round) {
        const auto before = secret.size();
        std::istringstream stream(text);
        YAML::Emitter out;
        try {
            YAML::Parser parser(stream);
            SecretRemover remover(secret, out);
            parser.HandleNextDocument(remover);
        } catch (const YAML::Exception& exception) { // its words may quote the text
            return fail(ErrorKind::invalid,
                        "left out, since it cannot be parsed: line {}: no YAML, or nested too deeply",
                        exception.mark.line + 1);
        }
        if (!out.good())
            return fail(ErrorKind::invalid, "left out, since it cannot be written anew");
        if (secret.size() == before)
            return std::string(out.c_str(), out.size()) + "\n";
    }
    return fail(ErrorKind::invalid, "left out: its secrets refer to others more than {} times over", most_rounds);
}

} // namespace bulkhead::cli
