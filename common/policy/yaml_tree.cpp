// SPDX-License-Identifier: Apache-2.0
#include "common/policy/yaml_tree.h"

#include "common/policy/parse.h"
#include "common/policy/source_text.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <array>
#include <istream>
#include <streambuf>
#include <unordered_map>

namespace bulkhead::policy {
namespace {

// Thrown by our event handler to leave yaml-cpp in the middle of a document; the finding is made already.
struct Abandoned {};

// Builds trees from yaml-cpp's events, so that its own node graph, which would expand aliases, never exists.
class TreeBuilder final : public YAML::EventHandler {
public:
    TreeBuilder(int first_line, std::size_t& nodes, YamlFile& file) : line_(first_line), nodes_(nodes), file_(file)
    {
        begun_.line = first_line;
    }

    void OnDocumentStart(const YAML::Mark& mark) override
    {
        open_.clear();
        document_ = YamlNode{};
        place(document_, mark);
        if (mark.pos <= last_start_) // yaml-cpp would begin the same document for ever, at a stray ',' for one
            abandon_stray();
        last_start_ = mark.pos;
        begun_ = document_;
    }
    void OnDocumentEnd() override
    {
        if (document_.kind == YamlNode::Kind::null) { // yaml-cpp puts the missing content at the next token
            document_.line = begun_.line;
            document_.column = begun_.column;
        }
        file_.documents.push_back(std::move(document_));
    }
    void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { add(make(mark, YamlNode::Kind::null)); }
    void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override
    {
        auto node = make(mark, YamlNode::Kind::invalid);
        find_fault(node, "aliases (*name) are not used in policies", "write the value out");
        add(std::move(node));
    }
    void OnAnchor(const YAML::Mark& mark, const std::string& name) override
    {
        auto node = YamlNode{};
        place(node, mark);
        find_fault(node, fmt::format("anchors (&{}) are not used in policies", name.substr(0, 40)),
                   "remove the anchor and write the value out where it is needed");
    }
    void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, const std::string& value) override
    {
        auto node = make(mark, YamlNode::Kind::scalar);
        refuse_tag(node, tag);
        if (value.size() > max_scalar_bytes) {
            node.kind = YamlNode::Kind::invalid;
            find_fault(node, fmt::format("a value of {} bytes; the limit is {}", value.size(), max_scalar_bytes),
                       "shorten it");
        } else if (!is_printable(value, true)) { // an escape such as "\x1b" can hide one
            node.kind = YamlNode::Kind::invalid;
            find_fault(node, "a control character in a value", "remove the escape");
        } else {
            node.text = value;
            node.quoted = tag == "!";
        }
        add(std::move(node));
    }
    void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t,
                         YAML::EmitterStyle::value) override
    {
        open(mark, tag, YamlNode::Kind::sequence);
    }
    void OnSequenceEnd() override { close(); }
    void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t, YAML::EmitterStyle::value) override
    {
        open(mark, tag, YamlNode::Kind::map);
    }
    void OnMapEnd() override { close(); }

    // Where the document that is being read begins.
    [[nodiscard]] int document_line() const { return begun_.line; }
    // The innermost list or map that is not complete; nullptr: none.
    [[nodiscard]] const YamlNode* unfinished() const { return open_.empty() ? nullptr : &open_.back().node; }

private:
    struct Open {
        YamlNode node;
        bool has_key = false; // of a map: a key came and waits for its value
        YamlNode key;
        std::unordered_map<std::string, int> lines; // keys seen
    };

    void place(YamlNode& node, const YAML::Mark& mark) const
    {
        node.line = std::max(mark.line, 0) + line_;
        node.column = std::max(mark.column, 0) + 1;
    }

    YamlNode make(const YAML::Mark& mark, YamlNode::Kind kind)
    {
        YamlNode node;
        node.kind = kind;
        place(node, mark);
        if (++nodes_ > max_nodes) {
            find_fault(node, fmt::format("more than {} values in one file", max_nodes), "split the file");
            throw Abandoned{};
        }
        return node;
    }

    [[noreturn]] void abandon_stray()
    {
        if (!file_.documents.empty())
            file_.documents.pop_back(); // was made of nothing
        find_fault(document_, "malformed YAML: nothing can begin with this character",
                   "remove it, or put the value in quotes");
        throw Abandoned{};
    }

    void find_fault(const YamlNode& node, std::string message, std::string mend)
    {
        if (file_.findings.size() <= max_findings)
            file_.findings.push_back({node.line, node.column, std::move(message), std::move(mend)});
    }

    void refuse_tag(const YamlNode& node, const std::string& tag)
    {
        if (!tag.empty() && tag != "?" && tag != "!")
            find_fault(node, "YAML tags (!name) are not used in policies", "remove the tag");
    }

    void open(const YAML::Mark& mark, const std::string& tag, YamlNode::Kind kind)
    {
        auto node = make(mark, kind);
        refuse_tag(node, tag);
        if (open_.size() >= static_cast<std::size_t>(max_depth)) {
            find_fault(node, fmt::format("nested deeper than {} levels", max_depth), "flatten it");
            throw Abandoned{};
        }
        open_.push_back({std::move(node), false, {}, {}});
    }

    void close()
    {
        auto done = std::move(open_.back().node);
        open_.pop_back();
        add(std::move(done));
    }

    void add(YamlNode node)
    {
        if (open_.empty()) {
            document_ = std::move(node);
            return;
        }
        auto& parent = open_.back();
        if (parent.node.kind == YamlNode::Kind::sequence) {
            parent.node.items.push_back(std::move(node));
        } else if (!parent.has_key) {
            parent.key = std::move(node);
            parent.has_key = true;
        } else {
            parent.has_key = false;
            add_member(parent, std::move(node));
        }
    }

    void add_member(Open& map, YamlNode value)
    {
        if (map.key.kind == YamlNode::Kind::invalid)
            return;
        if (map.key.kind != YamlNode::Kind::scalar) {
            find_fault(map.key, "a key must be a word", "write `key: value`");
            return;
        }
        const auto [first, is_new] = map.lines.try_emplace(map.key.text, map.key.line);
        if (!is_new) {
            find_fault(map.key,
                       fmt::format("'{}' is given twice; first on line {}", map.key.text.substr(0, 80), first->second),
                       "keep one of them");
            return;
        }
        if (value.kind == YamlNode::Kind::null) { // yaml-cpp puts it at the next token, maybe lines away
            value.line = map.key.line;
            value.column = map.key.column;
        }
        map.node.members.push_back({std::move(map.key), std::move(value)});
    }

    int line_;
    int last_start_ = -1;
    std::size_t& nodes_;
    YamlFile& file_;
    std::vector<Open> open_;
    YamlNode document_, begun_;
};

// yaml-cpp's words for what admins get wrong most, in words that say what to do.
struct Translation {
    std::string_view theirs, ours, mend;
};
constexpr std::array<Translation, 8> translations{{
    {"illegal EOF in scalar", "a quote is opened and never closed", "close the quote"},
    {"the referenced anchor is not defined", "aliases (*name) are not used in policies", "write the value out"},
    {"unknown token", "a value cannot begin with this character", "put the value in quotes"},
    {"illegal document indicator in scalar", "a quote is opened and not closed before the next document",
     "close the quote"},
    {"end of map not found", "malformed YAML: this does not continue the map before it",
     "give keys of one map the same indentation, and quote values with special characters"},
    {"end of sequence not found", "malformed YAML: this does not continue the list before it",
     "give items of one list the same indentation"},
    {"illegal map value", "malformed YAML: a ': ' that no key can have here",
     "check the indentation, or put the value in quotes"},
    {"bad file", "nested too deeply", "flatten it"},
}};

std::string_view line_at(std::string_view text, int line)
{
    for (; line > 1 && !text.empty(); --line) {
        const auto end = text.find('\n');
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    }
    return text.substr(0, text.find('\n'));
}

// A bracket that is never closed is noticed somewhere behind it, often at the end of the file.
void blame_bracket(YamlFinding& finding, const YamlNode& opened)
{
    finding.message = fmt::format("the '{}' of line {}, column {} is not closed, or a ',' is missing here",
                                  opened.kind == YamlNode::Kind::map ? '{' : '[', opened.line, opened.column);
    finding.mend = "close it, or separate its items with ','";
    if (finding.column == 1) {
        finding.line = opened.line;
        finding.column = opened.column;
    }
}

YamlFinding explain(const YAML::Exception& exception, std::string_view chunk, int first_line,
                    const TreeBuilder& builder)
{
    const int line = exception.mark.is_null() ? 0 : exception.mark.line;
    const int column = exception.mark.is_null() ? 0 : exception.mark.column;
    YamlFinding finding{first_line + line, column + 1, {}, {}};
    const auto source = line_at(chunk, line + 1);
    const auto tab = source.substr(0, source.find_first_not_of(" \t")).find('\t');
    const auto known = std::find_if(translations.begin(), translations.end(),
                                    [&exception](const auto& t) { return t.theirs == exception.msg; });
    const bool bracket =
        exception.msg == "end of map flow not found" || exception.msg == "end of sequence flow not found";
    if (tab != std::string_view::npos) {
        finding.column = static_cast<int>(tab) + 1;
        finding.message = "a tab in the indentation";
        finding.mend = "indent with spaces";
    } else if (bracket && builder.unfinished() != nullptr) {
        blame_bracket(finding, *builder.unfinished());
    } else if (known != translations.end()) {
        finding.message = known->ours;
        finding.mend = known->mend;
    } else {
        finding.message = "malformed YAML: " + exception.msg;
        finding.mend = "check indentation, quotes and brackets here";
    }
    return finding;
}

// Where the next document begins after line `line` (from 0) of the chunk; npos: nowhere.
std::size_t next_document(std::string_view chunk, int line, int& skipped)
{
    std::size_t at = 0;
    for (skipped = 0; at < chunk.size(); ++skipped) {
        const auto rest = chunk.substr(at);
        const bool marker = rest.starts_with("---") &&
                            (rest.size() == 3 || std::string_view(" \t\r\n").find(rest[3]) != std::string_view::npos);
        if (marker && skipped > 0 && skipped >= line)
            return at;
        const auto end = rest.find('\n');
        if (end == std::string_view::npos)
            break;
        at += end + 1;
    }
    return std::string_view::npos;
}

// Lets yaml-cpp read text where it lies.
class ViewBuffer final : public std::streambuf {
public:
    explicit ViewBuffer(std::string_view text)
    {
        auto* begin = const_cast<char*>(text.data()); // a get area is only read
        setg(begin, begin, begin + text.size());
    }
};

// Reads documents of the chunk up to its end or its first syntax error. Returns the line (from 0) where it stopped; -1:
// the end.
int read_documents(std::string_view chunk, int first_line, std::size_t& nodes, YamlFile& file)
{
    TreeBuilder builder(first_line, nodes, file);
    try {
        ViewBuffer buffer(chunk);
        std::istream stream(&buffer);
        YAML::Parser parser(stream);
        while (parser.HandleNextDocument(builder)) {
        }
        return -1;
    } catch (const Abandoned&) {
        return builder.document_line() - first_line;
    } catch (const YAML::Exception& exception) {
        file.findings.push_back(explain(exception, chunk, first_line, builder));
        // yaml-cpp takes what comes before such an error for a whole document of one word.
        if (!file.documents.empty() && file.documents.back().kind == YamlNode::Kind::scalar)
            file.documents.pop_back();
        return std::max(file.findings.back().line, builder.document_line()) - first_line;
    }
}

} // namespace

const YamlNode* YamlNode::find(std::string_view key) const
{
    const auto found = std::find_if(members.begin(), members.end(),
                                    [key](const YamlMember& member) { return member.key.text == key; });
    return found == members.end() ? nullptr : &found->value;
}

YamlFile read_yaml(const std::string& text)
{
    YamlFile file;
    if (auto bad = first_bad_byte(text)) {
        file.findings.push_back(std::move(*bad));
        return file;
    }
    // yaml-cpp takes the end of the text for a closing quote when a line break comes right before it.
    auto chunk = std::string_view(text).substr(0, text.find_last_not_of(" \t\r\n") + 1);
    std::size_t nodes = 0;
    for (int line = 1; !chunk.empty() && nodes <= max_nodes && file.findings.size() <= max_findings;) {
        const int stopped = read_documents(chunk, line, nodes, file);
        if (stopped < 0)
            break;
        int skipped = 0;
        const auto next = next_document(chunk, stopped, skipped);
        if (next == std::string::npos)
            break;
        line += skipped;
        chunk.remove_prefix(next);
    }
    return file;
}

} // namespace bulkhead::policy
