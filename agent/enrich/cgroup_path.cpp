// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/enrich.h"

#include <algorithm>
#include <array>

namespace bulkhead::agent {
namespace {

constexpr std::size_t container_id_length = 64;

// The unit types that systemd gives a cgroup: systemd.unit(5); devices, targets, timers and paths have no processes.
constexpr std::array<std::string_view, 6> unit_suffixes{".service", ".scope", ".slice", ".socket", ".mount", ".swap"};

// The program that watches a container stands beside it in a scope that carries the container's id.
constexpr std::string_view monitor_prefix = "conmon-";

bool is_unit_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view(":-_.\\@").find(c) != std::string_view::npos;
}

// The unit that a component names, or empty. systemd puts '_' before a name that the kernel might use itself
// ("_memory.service", cg_escape() in systemd's cgroup-util.c).
std::string_view unit_of(std::string_view component)
{
    if (component.starts_with('_'))
        component.remove_prefix(1);
    const bool named = std::any_of(unit_suffixes.begin(), unit_suffixes.end(), [component](std::string_view suffix) {
        return component.size() > suffix.size() && component.ends_with(suffix);
    });
    return named && std::all_of(component.begin(), component.end(), is_unit_character) ? component : std::string_view{};
}

bool is_container_id(std::string_view text)
{
    return text.size() == container_id_length && std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

// "ID", "docker-ID.scope" and the like, "kubepods-...slice:cri-containerd:ID", "libpod-ID"; or empty.
std::string_view container_of(std::string_view component)
{
    if (component.ends_with(".scope"))
        component.remove_suffix(std::string_view(".scope").size());
    if (component.size() < container_id_length)
        return {};
    const auto id = component.substr(component.size() - container_id_length);
    const auto prefix = component.substr(0, component.size() - container_id_length);
    if (!is_container_id(id) || prefix.ends_with(monitor_prefix))
        return {};
    return prefix.empty() || prefix.ends_with('-') || prefix.ends_with(':') ? id : std::string_view{};
}

bool is_user_manager(std::string_view unit)
{
    return unit.starts_with("user@") && unit.ends_with(".service");
}

// What systemd-machined registers, systemd-nspawn and LXC run: whose root names the folders in it, and is root here
// where it has no user namespace of its own.
bool is_machine(std::string_view component)
{
    return (component.starts_with("machine-") && component.ends_with(".scope")) ||
           (component.starts_with("systemd-nspawn@") && component.ends_with(".service")) ||
           component == "lxc.payload" || component.starts_with("lxc.payload.");
}

// Calls visit(component, end of the component in path) from the outermost on, until it returns false.
template <typename Visit>
void for_each_component(std::string_view path, Visit visit)
{
    for (std::size_t begin = 0; begin < path.size();) {
        const auto end = std::min(path.find('/', begin), path.size());
        if (end > begin && !visit(path.substr(begin, end - begin), end))
            return;
        begin = end + 1;
    }
}

} // namespace

CgroupNames parse_cgroup_path(std::string_view path)
{
    CgroupNames names;
    for_each_component(path, [&names](std::string_view component, std::size_t) {
        if (const auto container = container_of(component); !container.empty())
            names.container = container;
        if (const auto unit = unit_of(component); !unit.empty()) {
            names.units.emplace_back(unit);
            if (!unit.ends_with(".slice"))
                names.unit = unit;
        }
        return true;
    });
    return names;
}

std::string_view administered_part(std::string_view path)
{
    auto length = path.size();
    for_each_component(path, [&length](std::string_view component, std::size_t end) {
        const bool boundary =
            is_user_manager(unit_of(component)) || is_machine(component) || !container_of(component).empty();
        if (boundary)
            length = end;
        return !boundary;
    });
    return path.substr(0, length);
}

} // namespace bulkhead::agent
