// SPDX-License-Identifier: Apache-2.0
#include "cli/command.h"
#include "cli/commands/local_status.h"
#include "cli/host/bundle.h"
#include "cli/host/examination.h"
#include "cli/host/gzip.h"
#include "cli/host/host_checks.h"
#include "cli/host/yaml_secrets.h"
#include "cli/peers/context_file.h"
#include "common/core/clock.h"
#include "common/core/version.h"

#include <fmt/ostream.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace bulkhead::cli {
namespace {

struct BundleOptions {
    std::string file, log, agent_config;
    std::uint32_t lines = 2000, limit = 1000;
};

Result<std::string> text_or_why(std::optional<std::string> text, const std::string& path)
{
    if (!text)
        return fail_errno(errno, path);
    return std::move(*text);
}

// Also of a program that is not content: systemctl status is not, when the unit has failed.
Result<std::string> output_of(const std::vector<std::string>& argv)
{
    auto ended = run_program(argv);
    if (!ended || (ended->code != 0 && ended->output.empty()))
        return fail(ErrorKind::failed, "'{}' failed, or is not there", fmt::join(argv, " "));
    return std::move(ended->output);
}

// One that cannot be read as YAML could not be cleaned either.
Result<std::string> clean_config(const std::string& path)
{
    BULKHEAD_TRY(const auto text, text_or_why(whole_file(path), path));
    return yaml_without_secrets(text);
}

// What this host holds and nobody else may see.
SecretFilter known_secrets(const AgentPlace& place)
{
    SecretFilter filter;
    std::error_code ignored; // what cannot be read cannot get into the bundle
    for (const auto& folder : {place.state_dir, std::filesystem::path(place.config).parent_path().string()})
        for (const auto& entry : std::filesystem::directory_iterator(folder, ignored))
            if (entry.is_regular_file(ignored))
                if (const auto text = whole_file(entry.path()))
                    filter.learn(*text);
    for (const auto& path : {place.environment, default_context_path()})
        if (const auto text = whole_file(path))
            filter.learn(*text);
    if (const char* token = std::getenv("BULKHEAD_JOIN"))
        filter.learn(token);
    return filter;
}

std::string versions(const v1::LocalStatus* status)
{
    utsname name{};
    ::uname(&name);
    return fmt::format("bulkheadctl {}\nbulkheadd {}\n{} {} {} {}\n\n{}", BULKHEAD_VERSION,
                       status != nullptr ? status->version() : "does not answer", name.sysname, name.release,
                       name.version, name.machine, whole_file("/etc/os-release").value_or(""));
}

std::string kernel_facts()
{
    std::string text;
    for (const char* path :
         {"/proc/sys/net/core/bpf_jit_enable", "/proc/sys/net/core/bpf_jit_harden",
          "/proc/sys/kernel/unprivileged_bpf_disabled", "/sys/kernel/security/lsm", "/sys/kernel/security/lockdown",
          "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"})
        text += fmt::format("{} = {}\n", path, first_line(path).value_or("cannot be read"));
    std::istringstream mounts(whole_file("/proc/self/mounts").value_or(""));
    for (std::string line; std::getline(mounts, line);)
        if (line.find(" cgroup") != std::string::npos || line.find(" bpf ") != std::string::npos)
            text += line + "\n";
    std::istringstream options(kernel_config("").value_or(""));
    for (std::string line; std::getline(options, line);)
        for (const char* part : {"BPF", "CGROUP", "INET_DIAG", "NET_CLS", "NET_SCH_INGRESS", "NETKIT", "LSM"})
            if (line.find(part) != std::string::npos) {
                text += line + "\n";
                break;
            }
    return text;
}

// Names, sizes, modes, owners and times; no contents.
Result<std::string> folder_listing(const std::string& folder)
{
    std::error_code error;
    std::string text;
    auto entry = std::filesystem::recursive_directory_iterator(folder, error);
    for (; !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
        struct stat found {};
        if (::lstat(entry->path().c_str(), &found) == 0)
            text += fmt::format("{:06o} {:>5} {:>5} {:>12} {} {}\n", found.st_mode, found.st_uid, found.st_gid,
                                found.st_size, format_rfc3339(std::chrono::system_clock::from_time_t(found.st_mtime)),
                                entry->path().string());
    }
    if (error)
        return fail(ErrorKind::failed, "{}: {}", folder, error.message());
    return text;
}

Result<v1::LocalStatus> ask_status(Context& context)
{
    BULKHEAD_TRY(auto* agent, context.peers.agent());
    v1::LocalStatus status;
    grpc::ClientContext call;
    set_deadline(call);
    if (const auto result = agent->GetStatus(&call, {}, &status); !result.ok())
        return tl::unexpected(explain(result, context.peers.agent_name()));
    return status;
}

Result<std::string> findings_text(Context& context, const AgentPlace& place)
{
    std::ostringstream text;
    print(findings_listing(examine(context, {}, place)), Format::table, text);
    return text.str();
}

void collect(const BundleOptions& options, Context& context, const AgentPlace& place,
             const Result<v1::LocalStatus>& status, Bundle& bundle)
{
    bundle.add("versions.txt", versions(status ? &*status : nullptr));
    bundle.add("kernel.txt", kernel_facts());
    bundle.add("doctor.txt", findings_text(context, place));
    bundle.add("agent.yaml", clean_config(place.config));
    bundle.add_document("status.json", status.map([](const auto& one) { return status_document(one); }));
    bundle.add_document("maps.json",
                        ask_for_maps(context, options.limit).map([](const auto& maps) { return maps_document(maps); }));
    bundle.add("state-folder.txt", folder_listing(place.state_dir));
    bundle.add("pins.txt", folder_listing(place.pin_dir));
    bundle.add("log.txt", options.log.empty() ? output_of({"journalctl", "--no-pager", "-u", "bulkheadd", "-n",
                                                           std::to_string(options.lines)})
                                              : text_or_why(end_of_file(options.log), options.log));
    bundle.add("unit.txt", output_of({"systemctl", "status", "--no-pager", "--full", "bulkheadd"}));
    bundle.add("interfaces.txt", output_of({"ip", "-details", "address"}));
}

int run_support_bundle(const BundleOptions& options, Context& context)
{
    auto place = find_agent({}, options.agent_config);
    context.peers.agent_listens_at(place.socket);
    const auto status = ask_status(context);
    if (status && !status->state_dir().empty())
        place.state_dir = status->state_dir();
    const auto now = system_clock().wall();
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
    utsname name{};
    ::uname(&name);
    const auto folder = bundle_folder(name.nodename, seconds);
    const auto path = options.file.empty() ? folder + ".tar.gz" : options.file;
    if (std::error_code ignored; std::filesystem::exists(path, ignored)) // before a minute's work
        return report(context,
                      Error{ErrorKind::refused, path + " is there already", "name another file, or remove it"});
    Bundle bundle(folder, known_secrets(place));
    collect(options, context, place, status, bundle);
    if (const auto written = bundle.write(path, seconds); !written)
        return report(context, written.error());
    for (const auto& missing : bundle.missing())
        fmt::print(context.err, "not in it: {}\n", printable(missing));
    if (context.format == Format::table)
        fmt::print(context.out, "{}\n", path);
    else
        print_document(Json{{"file", path}, {"missing", bundle.missing()}}, context.format, context.out);
    return 0;
}

} // namespace

void add_support_bundle(CLI::App& agent, Selection& selection)
{
    auto options = std::make_shared<BundleOptions>();
    auto* command = agent.add_subcommand(
        "support-bundle",
        "Collect what support needs of this host into one file: versions, kernel, configuration, status, "
        "maps, log, findings; no keys, tokens or flows");
    command->add_option("--file", options->file, "Where to (default bulkhead-support-HOST-TIME.tar.gz, here)")
        ->type_name("FILE");
    command->add_option("--log", options->log, "The agent's log, where it is not in the journal")->type_name("FILE");
    command->add_option("--lines", options->lines, "How many of the journal's lines (default 2000)")->type_name("N");
    command->add_option("--limit", options->limit, "At most so many lines of each map; 0: all (default 1000)")
        ->type_name("N");
    command
        ->add_option("--agent-config", options->agent_config,
                     "The agent's configuration (default: that of its unit, /etc/bulkhead/agent.yaml)")
        ->type_name("FILE");
    command->footer(
        "The file is new, of mode 0600; look into it before you send it. What could not be had is listed in its\n"
        "MANIFEST.txt.");
    on_selected(command, selection, options, run_support_bundle);
}

} // namespace bulkhead::cli
