// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"

#include <fmt/ostream.h>

namespace bulkhead::cli {
namespace {

struct CompletionOptions {
    std::string shell;
};

// The words that may follow one command path, read from the command tree itself, so that a new option completes by
// itself.
struct Node {
    std::string path; // "bulkheadctl policy apply"
    std::vector<std::string> words;
};

void collect(const CLI::App& command, const std::string& path, const std::vector<std::string>& inherited,
             std::vector<Node>& nodes)
{
    Node node{path, inherited};
    for (const auto* option : command.get_options()) {
        for (const auto& name : option->get_lnames())
            node.words.push_back("--" + name);
        for (const auto& name : option->get_snames())
            node.words.push_back("-" + name);
    }
    auto passed_on = path.find(' ') == std::string::npos ? node.words : inherited;
    for (const auto* child : command.get_subcommands([](const CLI::App*) { return true; }))
        node.words.push_back(child->get_name());
    nodes.push_back(node);
    for (const auto* child : command.get_subcommands([](const CLI::App*) { return true; }))
        collect(*child, path + " " + child->get_name(), passed_on, nodes);
}

void write_bash(const std::vector<Node>& nodes, std::ostream& out)
{
    out << R"(# bash completion for bulkheadctl; install as /usr/share/bash-completion/completions/bulkheadctl
_bulkheadctl() {
  local current=${COMP_WORDS[COMP_CWORD]} path=bulkheadctl word words i
  declare -A next=(
)";
    for (const auto& node : nodes)
        fmt::print(out, "    ['{}']='{}'\n", node.path, join(node.words, " "));
    out << R"(  )
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    [[ -n ${next["$path $word"]+known} ]] && path="$path $word"
  done
  words=${next[$path]}
  case ${COMP_WORDS[COMP_CWORD - 1]} in
    -o | --output) words='table json yaml' ;;
    --verdict) words='allowed denied would-deny' ;;
    --direction) words='inbound outbound forwarded local' ;;
    --config | --socket | --input-file | --file | --log | --agent-config) words= ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  if [[ $current != -* ]] && [[ -z $words || $path == *' validate' || $path == *' apply' ]]; then
    mapfile -t -O "${#COMPREPLY[@]}" COMPREPLY < <(compgen -f -- "$current")
  fi
}
complete -o filenames -F _bulkheadctl bulkheadctl
)";
}

// zsh runs bash's completion functions; one description of the words serves both.
void write_zsh(const std::vector<Node>& nodes, std::ostream& out)
{
    out << R"(#compdef bulkheadctl
# zsh completion for bulkheadctl; install as _bulkheadctl in a folder of $fpath
_bulkheadctl() {
  local at=bulkheadctl word i
  local -a offered
  local -A next=(
)";
    for (const auto& node : nodes)
        fmt::print(out, "    '{}' '{}'\n", node.path, join(node.words, " "));
    out << R"(  )
  for ((i = 2; i < CURRENT; i++)); do
    word=${words[i]}
    (( ${+next[$at $word]} )) && at="$at $word"
  done
  case ${words[CURRENT-1]} in
    -o|--output) offered=(table json yaml) ;;
    --verdict) offered=(allowed denied would-deny) ;;
    --direction) offered=(inbound outbound forwarded local) ;;
    --config|--socket|--input-file|--file|--log|--agent-config) _files; return ;;
    *) offered=(${=next[$at]}) ;;
  esac
  compadd -- $offered
  [[ $at == *' validate' || $at == *' apply' ]] && _files
  return 0
}
# Autoloaded from $fpath this file is the function's first call; sourced it only announces itself.
if [[ ${funcstack[1]} == _bulkheadctl ]]; then
  _bulkheadctl "$@"
else
  compdef _bulkheadctl bulkheadctl
fi
)";
}

} // namespace

void add_completion(CLI::App& app, Selection& selection)
{
    auto options = std::make_shared<CompletionOptions>();
    auto* command = app.add_subcommand("completion", "Print a completion script");
    command->add_option("shell", options->shell)
        ->required()
        ->check(CLI::IsMember({"bash", "zsh"}))
        ->type_name("bash|zsh");
    command->callback([&app, &selection, options] {
        selection.action = [&app, options](Context& context) {
            std::vector<Node> nodes;
            collect(app, app.get_name(), {}, nodes);
            if (options->shell == "bash")
                write_bash(nodes, context.out);
            else
                write_zsh(nodes, context.out);
            return 0;
        };
    });
}

} // namespace bulkhead::cli
