// SPDX-License-Identifier: Apache-2.0
#include "cli/man_page.h"

#include "common/core/version.h"

#include <fmt/format.h>

#include <cctype>
#include <vector>

namespace bulkhead::cli {
namespace {

// groff_man(7): "-" alone is a hyphen that cannot be searched for, and a line that begins with "." is a request.
std::string escaped(const std::string& text)
{
    std::string out;
    for (const char c : text) {
        if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n'))
            out += "\\&";
        if (c == '\\')
            out += "\\e";
        else if (c == '-')
            out += "\\-";
        else if (c == '~')
            out += "\\(ti";
        else
            out += c;
    }
    return out;
}

std::string bold(const std::string& text)
{
    return "\\fB" + escaped(text) + "\\fR";
}

std::string italic(const std::string& text)
{
    return "\\fI" + escaped(text) + "\\fR";
}

// "HOST:PORT", "json|yaml"; nothing for a flag.
std::string value_of(const CLI::Option& option)
{
    if (option.get_items_expected_max() == 0)
        return {};
    const auto text = option.get_option_text();
    return text.empty() ? option.get_type_name() : text;
}

std::string sentence(std::string text)
{
    if (!text.empty() && text.back() != '.')
        text += '.';
    return text;
}

bool repeatable(const CLI::Option& option)
{
    return option.get_items_expected_max() > 1;
}

std::string in_synopsis(const CLI::Option& positional)
{
    const auto value = value_of(positional);
    auto word = italic(value.empty() ? positional.get_name(true) : value) + (repeatable(positional) ? "..." : "");
    return positional.get_required() ? word : "[" + word + "]";
}

std::vector<const CLI::Option*> options_of(const CLI::App& command, bool positional)
{
    return command.get_options([positional](const CLI::Option* option) {
        return option->get_positional() == positional && option->nonpositional() != positional &&
               !option->get_group().empty(); // an option without a group is hidden
    });
}

std::string synopsis(const CLI::App& command, const std::string& path)
{
    std::string line = bold(path) + " [" + italic("OPTION") + "]...";
    for (const auto* option : options_of(command, true))
        line += " " + in_synopsis(*option);
    return line + "\n";
}

std::string names_of(const CLI::Option& option)
{
    std::string text;
    const auto add = [&text](const std::string& name) { text += (text.empty() ? "" : ", ") + bold(name); };
    for (const auto& name : option.get_snames())
        add("-" + name);
    for (const auto& name : option.get_lnames())
        add("--" + name);
    if (text.empty())
        return italic(value_of(option).empty() ? option.get_name(true) : value_of(option));
    const auto value = value_of(option);
    return value.empty() ? text : text + " " + italic(value);
}

std::string described(const CLI::Option& option)
{
    return ".TP\n" + names_of(option) + "\n" + escaped(sentence(option.get_description())) + "\n";
}

std::string options_section(const CLI::App& command)
{
    std::string text;
    for (const bool positional : {true, false})
        for (const auto* option : options_of(command, positional))
            if (option != command.get_help_ptr())
                text += described(*option);
    return text;
}

// CLI11 hands the footer of the root (the exit codes) down to every command; bulkheadctl(1) has it.
std::string footer_of(const CLI::App& command, const std::string& inherited)
{
    const auto footer = command.get_footer();
    return footer.empty() || footer == inherited ? std::string() : ".PP\n" + escaped(sentence(footer)) + "\n";
}

std::vector<const CLI::App*> children_of(const CLI::App& command)
{
    return command.get_subcommands([](const CLI::App* child) { return !child->get_group().empty(); });
}

void collect_leaves(const CLI::App& command, const std::string& path,
                    std::vector<std::pair<std::string, const CLI::App*>>& leaves)
{
    const auto children = children_of(command);
    if (children.empty())
        leaves.emplace_back(path, &command);
    for (const auto* child : children)
        collect_leaves(*child, path + " " + child->get_name(), leaves);
}

std::string upper(std::string text)
{
    for (auto& c : text)
        c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return text;
}

} // namespace

std::string man_page(const CLI::App& group, const std::string& date)
{
    const auto name = "bulkheadctl-" + group.get_name();
    std::vector<std::pair<std::string, const CLI::App*>> leaves;
    collect_leaves(group, "bulkheadctl " + group.get_name(), leaves);
    std::string page = fmt::format(
        ".TH \"{}\" \"1\" \"{}\" \"Bulkhead {}\" \"Bulkhead\"\n.nh\n.ad l\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
        upper(name), date, BULKHEAD_VERSION, escaped(name), escaped(group.get_description()));
    for (std::size_t i = 0; i < leaves.size(); ++i)
        page += (i == 0 ? "" : ".br\n") + synopsis(*leaves[i].second, leaves[i].first);
    const auto root_footer = group.get_parent() == nullptr ? std::string() : group.get_parent()->get_footer();
    const bool alone = leaves.size() == 1 && leaves.front().second == &group;
    page += alone ? ".SH OPTIONS\n" : ".SH COMMANDS\n";
    for (const auto& [path, command] : leaves) {
        if (!alone)
            page += ".SS " + escaped(path) + "\n" + escaped(sentence(command->get_description())) + "\n";
        page += options_section(*command) + footer_of(*command, root_footer);
    }
    page +=
        ".PP\nGlobal options, exit status, environment and files are described in " + bold("bulkheadctl") + "(1).\n";
    page += ".SH SEE ALSO\n" + bold("bulkheadctl") + "(1), " + bold("bulkheadd") + "(8), " +
            bold("bulkhead-controller") + "(8)\n";
    return page;
}

} // namespace bulkhead::cli
