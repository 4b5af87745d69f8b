// SPDX-License-Identifier: Apache-2.0
#include "agent/enrich/proc_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <memory>

namespace bulkhead::agent {
namespace {

constexpr std::size_t max_command_line = 1024;
constexpr std::uint32_t unset_login_uid = 4294967295; // audit's "nobody logged in": (uid_t)-1
constexpr std::string_view deleted_mark = " (deleted)";

std::string read_link(const std::string& path)
{
    std::array<char, PATH_MAX> text{};
    const auto length = ::readlink(path.c_str(), text.data(), text.size());
    return length > 0 ? std::string(text.data(), static_cast<std::size_t>(length)) : std::string{};
}

template <typename Number>
std::optional<Number> number(std::string_view text)
{
    Number value = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    return code == std::errc{} && end != text.data() ? std::optional(value) : std::nullopt;
}

// What a process runs may lie in a file system of its own making (FUSE, also below an overlay), which answers when it
// likes, and whoever waits for it cannot be ended. So only what the kernel has in memory is looked at.
std::optional<ShownFile> show_known(int file)
{
    return show_file(file, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC);
}

// By what the kernel has in memory alone (Linux 5.12). Mounts and names that change elsewhere have it give up now and
// then (EAGAIN), so it is asked again.
UniqueFd open_known(int folder, const std::string& name, std::uint64_t resolve)
{
    open_how how{};
    how.flags = O_PATH | O_CLOEXEC;
    how.resolve = resolve | RESOLVE_CACHED;
    UniqueFd found;
    for (int tries = 0; !found && tries < 16 && (tries == 0 || errno == EAGAIN); ++tries)
        found = UniqueFd(static_cast<int>(::syscall(SYS_openat2, folder, name.c_str(), &how, sizeof(how))));
    return found;
}

// Whether a running file has lost its name, as seen from that root folder. Also without the name it keeps the folders
// that it was in in memory, with it also the name. Where not even these are found, and before Linux 5.12, it has lost
// it if it has no name at all, as far as its file system is one that counts them (an overlay does not).
bool has_lost_name(const std::string& root, const std::string& name, const ShownFile& file)
{
    const auto last = name.rfind('/') + 1;
    const UniqueFd top(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    const auto folder = top ? open_known(top.get(), "/" + name.substr(0, last), RESOLVE_IN_ROOT) : UniqueFd{};
    if (!folder)
        return file.links == 0 || !file.file.is_on_block_device();
    const auto found = open_known(folder.get(), name.substr(last), 0);
    const auto shown = found ? show_known(found.get()) : std::nullopt;
    return !shown || shown->file.device != file.file.device || shown->file.inode != file.file.inode;
}

} // namespace

std::string without_deleted_mark(std::string link)
{
    if (link.ends_with(deleted_mark))
        link.resize(link.size() - deleted_mark.size());
    return link;
}

std::string ProcFiles::path(std::uint32_t pid, const std::string& name) const
{
    return root_ + "/" + std::to_string(pid) + "/" + name;
}

std::vector<std::uint32_t> ProcFiles::pids() const
{
    std::vector<std::uint32_t> pids;
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(root_.c_str()), ::closedir);
    while (const auto* entry = folder ? ::readdir(folder.get()) : nullptr) {
        const std::string_view name = entry->d_name;
        if (name[0] >= '1' && name[0] <= '9')
            if (const auto pid = number<std::uint32_t>(name))
                pids.push_back(*pid);
    }
    return pids;
}

std::optional<ProcStat> ProcFiles::stat(std::uint32_t pid) const
{
    // "1 (name) S ppid ...": the name may hold anything, ')' too, so count fields from the last ')' on. start_time is
    // field 22 of the line, the 20th after the name.
    const auto line = read_bounded(path(pid, "stat"), 4096);
    const auto name_end = line.rfind(')');
    if (name_end == std::string::npos)
        return std::nullopt;
    std::string_view rest = std::string_view(line).substr(name_end + 1);
    std::array<std::string_view, 20> fields;
    for (auto& field : fields) {
        const auto begin = rest.find_first_not_of(' ');
        if (begin == std::string_view::npos)
            return std::nullopt;
        rest.remove_prefix(begin);
        field = rest.substr(0, rest.find(' '));
        rest.remove_prefix(field.size());
    }
    const auto ppid = number<std::uint32_t>(fields[1]);
    const auto start = number<std::uint64_t>(fields[19]);
    if (!ppid || !start)
        return std::nullopt;
    return ProcStat{*ppid, *start, fields[0] == "Z" || fields[0] == "X"};
}

std::string ProcFiles::executable_link(std::uint32_t pid) const
{
    return read_link(path(pid, "exe"));
}

std::optional<OpenExecutable> ProcFiles::open_executable(std::uint32_t pid) const
{
    OpenExecutable open;
    open.held = UniqueFd(::open(path(pid, "exe").c_str(), O_PATH | O_CLOEXEC));
    const auto shown = open.held ? show_known(open.held.get()) : std::nullopt;
    auto& executable = open.executable;
    executable.path = shown ? read_link("/proc/self/fd/" + std::to_string(open.held.get())) : std::string{};
    if (executable.path.empty())
        return std::nullopt;
    open.shown = *shown;
    executable.file = shown->file;
    if (executable.path.ends_with(deleted_mark)) {
        executable.deleted = has_lost_name(path(pid, "root"), executable.path, *shown);
        if (executable.deleted)
            executable.path = without_deleted_mark(std::move(executable.path));
    }
    return open;
}

std::string ProcFiles::comm(std::uint32_t pid) const
{
    auto name = read_bounded(path(pid, "comm"), 64);
    if (name.ends_with('\n'))
        name.pop_back();
    return name;
}

std::string ProcFiles::command_line(std::uint32_t pid, PatientReader& reader) const
{
    struct stat process {}; // whose effective user it is
    if (::stat((root_ + "/" + std::to_string(pid)).c_str(), &process) != 0)
        return {};
    auto line = reader.read(path(pid, "cmdline"), max_command_line, process.st_uid);
    while (!line.empty() && line.back() == '\0')
        line.pop_back();
    for (char& c : line)
        if (c == '\0')
            c = ' ';
    return line;
}

std::optional<std::uint32_t> ProcFiles::real_uid(std::uint32_t pid) const
{
    const auto lines = read_bounded(path(pid, "status"), 4096);
    constexpr std::string_view mark = "\nUid:\t"; // in the name, which is before it, a newline is escaped
    const auto found = lines.find(mark);
    if (found == std::string::npos)
        return std::nullopt;
    const auto rest = std::string_view(lines).substr(found + mark.size());
    return number<std::uint32_t>(rest.substr(0, rest.find('\t')));
}

std::optional<std::uint32_t> ProcFiles::login_uid(std::uint32_t pid) const
{
    const auto uid = number<std::uint32_t>(read_bounded(path(pid, "loginuid"), 16));
    return uid == unset_login_uid ? std::nullopt : uid;
}

std::string ProcFiles::cgroup(std::uint32_t pid) const
{
    // Hybrid hierarchies list the v1 controllers as well; "0::" is the unified one (cgroups(7)).
    const auto lines = read_bounded(path(pid, "cgroup"), 16384);
    std::string_view rest = lines;
    while (!rest.empty()) {
        const auto line = rest.substr(0, rest.find('\n'));
        if (line.starts_with("0::/"))
            return std::string(line.substr(3));
        rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    }
    return {};
}

std::optional<std::uint64_t> ProcFiles::name_space(std::uint32_t pid, const std::string& kind) const
{
    const auto link = read_link(path(pid, "ns/" + kind)); // "mnt:[4026531841]"
    const auto begin = link.find('[');
    return begin == std::string::npos ? std::nullopt : number<std::uint64_t>(std::string_view(link).substr(begin + 1));
}

std::optional<MountNameSpace> ProcFiles::mount_name_space(std::uint32_t pid) const
{
    const UniqueFd space(::open(path(pid, "ns/mnt").c_str(), O_RDONLY | O_CLOEXEC));
    const UniqueFd owner(space ? ::ioctl(space.get(), NS_GET_USERNS) : -1); // none that is not ours or within ours
    struct stat space_status {};
    struct stat owner_status {};
    if (!owner || ::fstat(space.get(), &space_status) != 0 || ::fstat(owner.get(), &owner_status) != 0)
        return std::nullopt;
    return MountNameSpace{space_status.st_ino, owner_status.st_ino};
}

std::string ProcFiles::root(std::uint32_t pid) const
{
    return read_link(path(pid, "root"));
}

} // namespace bulkhead::agent
