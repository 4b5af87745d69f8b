// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/pins.h"

#include "agent/datapath/bpf_file_system.h"
#include "common/core/log.h"

#include <bpf/bpf.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <vector>

namespace bulkhead::agent {

namespace {

namespace fs = std::filesystem;

// bpffs refuses names with a dot.
std::string escape_name(const std::string& name)
{
    std::string escaped;
    for (const char c : name) {
        if (c == '.')
            escaped += "%2e";
        else if (c == '%')
            escaped += "%25";
        else if (c == '/')
            escaped += '-';
        else
            escaped += c;
    }
    return escaped;
}

fs::path nearest_existing(fs::path path)
{
    std::error_code error;
    while (!fs::exists(path, error) && path.has_parent_path() && path != path.parent_path())
        path = path.parent_path();
    return path;
}

Status make_folder(const std::string& path)
{
    if (::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST)
        return {};
    return fail_errno(errno, fmt::format("make the pin folder {}", path));
}

Result<std::vector<std::string>> names_in(const std::string& folder)
{
    std::vector<std::string> names;
    std::error_code error;
    if (!fs::exists(folder, error))
        return names;
    for (const auto& entry : fs::directory_iterator(folder, error))
        names.push_back(entry.path().string());
    if (error)
        return fail(ErrorKind::failed, "read {}: {}", folder, error.message());
    return names;
}

// In words; empty: it fits.
Result<std::string> difference_of(const std::string& path, int fd, const bpf_map* map)
{
    bpf_map_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
        return fail_errno(errno, fmt::format("inspect {}", path));
    // A ring's size is rounded up to pages and to a power of two; all of ours are both.
    if (info.type != bpf_map__type(map) || info.key_size != bpf_map__key_size(map) ||
        info.value_size != bpf_map__value_size(map) || info.max_entries != bpf_map__max_entries(map) ||
        info.map_flags != bpf_map__map_flags(map))
        return fmt::format("{} has another layout", bpf_map__name(map));
    return std::string();
}

// Of the layout as a whole; empty: the versions are the same.
Result<std::string> abi_difference(const std::string& path, int fd)
{
    bpf_map_info info{};
    __u32 size = sizeof(info);
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
        return fail_errno(errno, fmt::format("inspect {}", path));
    bh_control control{};
    const __u32 zero = 0;
    if (info.value_size != sizeof(control) || bpf_map_lookup_elem(fd, &zero, &control) != 0)
        return std::string("the control word has another layout");
    if (control.abi_version != BH_ABI_VERSION)
        return fmt::format("map layout {}, not {}", unsigned{control.abi_version}, BH_ABI_VERSION);
    return std::string();
}

// The highest number that a slot was given, also of a trial that is over (KernelDatapath::next_generation). 0 where
// slots have another layout.
std::uint32_t last_of_slots(const PinFolder& pins)
{
    const UniqueFd slots(bpf_obj_get(pins.map("bh_plane_info").c_str()));
    bpf_map_info info{};
    __u32 size = sizeof(info);
    bh_plane_info plane{};
    std::uint32_t last = 0;
    if (!slots || bpf_obj_get_info_by_fd(slots.get(), &info, &size) != 0 || info.value_size != sizeof(plane))
        return last;
    for (__u32 slot = 0; slot < info.max_entries; ++slot)
        if (bpf_map_lookup_elem(slots.get(), &slot, &plane) == 0)
            last = std::max(last, plane.generation);
    return last;
}

std::uint32_t generation_of(int control_map_fd)
{
    bpf_map_info info{};
    __u32 size = sizeof(info);
    bh_control control{};
    const __u32 zero = 0;
    if (bpf_obj_get_info_by_fd(control_map_fd, &info, &size) != 0 || info.value_size != sizeof(control) ||
        bpf_map_lookup_elem(control_map_fd, &zero, &control) != 0)
        return 0;
    return control.generation;
}

} // namespace

PinFolder::PinFolder(const DatapathOptions& options)
    : base_(options.pin_dir),
      path_(options.pin_dir + "/" +
            escape_name(options.instance.empty() ? instance_name(options.cgroup) : options.instance))
{}

std::string pin_folder(const DatapathOptions& options)
{
    return PinFolder(options).path();
}

std::vector<std::string> PinFolder::links() const
{
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(path_ + "/links", error), end; it != end && !error; it.increment(error))
        names.push_back(it->path().filename().string());
    return names;
}

Status PinFolder::prepare() const
{
    if (!on_bpf_file_system(nearest_existing(base_).string())) {
        const std::string standard(standard_bpf_mount);
        const bool below_standard = base_ == standard || base_.starts_with(standard + "/");
        // Over what others have pinned at the standard place none is mounted.
        BULKHEAD_CHECK(mount_bpf_file_system(below_standard && !on_bpf_file_system(standard) ? standard : base_));
    }
    std::error_code error;
    fs::create_directories(base_, error);
    if (error)
        return fail(ErrorKind::failed, "make the pin folder {}: {}", base_, error.message());
    for (const auto& folder : {path_, path_ + "/maps", path_ + "/links"})
        BULKHEAD_CHECK(make_folder(folder));
    return {};
}

Result<bool> PinFolder::remove() const
{
    std::error_code error;
    if (!fs::exists(path_, error)) {
        if (error && error.value() != ENOENT)
            return fail(ErrorKind::failed, "read {}: {}", path_, error.message());
        return false;
    }
    // Links first: with the maps gone first, programs still attached would go on with maps that nobody can find.
    BULKHEAD_TRY(const auto links, names_in(path_ + "/links"));
    for (const auto& pin : links) {
        const UniqueFd fd(bpf_obj_get(pin.c_str()));
        if (!fd)
            return fail_errno(errno, fmt::format("open {}", pin));
        // An agent that runs holds the link too; detaching acts now, whoever holds it. A dead link is detached already.
        if (bpf_link_detach(fd.get()) != 0)
            log_debug("detach {}: errno {}", pin, errno);
        if (::unlink(pin.c_str()) != 0)
            return fail_errno(errno, fmt::format("remove {}", pin));
    }
    for (const char* folder : {"/maps", "/maps-next", "/maps-old"}) { // the latter two: a change of layout was cut off
        BULKHEAD_TRY(const auto maps, names_in(path_ + folder));
        for (const auto& pin : maps)
            if (::unlink(pin.c_str()) != 0)
                return fail_errno(errno, fmt::format("remove {}", pin));
    }
    remove_if_empty();
    return true;
}

void PinFolder::remove_if_empty() const
{
    for (const auto& folder :
         {path_ + "/links", path_ + "/maps", path_ + "/maps-next", path_ + "/maps-old", path_, base_})
        (void)::rmdir(folder.c_str()); // the base folder is shared by instances and stays while one is in it
}

Result<PinnedMaps> adopt_pinned_maps(const PinFolder& pins, bpf_object* object)
{
    using Kind = PinnedMaps::Kind;
    const UniqueFd control(bpf_obj_get(pins.map(control_pin).c_str()));
    if (!control) {
        if (errno != ENOENT)
            return fail_errno(errno, fmt::format("open {}", pins.map(control_pin)));
        BULKHEAD_TRY(const auto links, names_in(pins.path() + "/links"));
        if (!links.empty())
            return PinnedMaps{Kind::other_layout, "links are pinned without the maps that belong to them", 0};
        BULKHEAD_TRY(const auto leftovers, names_in(pins.path() + "/maps"));
        for (const auto& pin : leftovers)
            (void)::unlink(pin.c_str());
        return PinnedMaps{};
    }
    BULKHEAD_TRY(std::string difference, abi_difference(pins.map(control_pin), control.get()));
    std::vector<std::pair<bpf_map*, UniqueFd>> found;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object)
    {
        if (bpf_map__is_internal(map) || !difference.empty())
            continue;
        const std::string path = pins.map(bpf_map__name(map));
        UniqueFd fd(bpf_obj_get(path.c_str()));
        if (!fd) {
            difference = fmt::format("there is no {}", bpf_map__name(map));
            continue;
        }
        BULKHEAD_TRY(difference, difference_of(path, fd.get(), map));
        found.emplace_back(map, std::move(fd));
    }
    if (!difference.empty())
        return PinnedMaps{Kind::other_layout, difference, std::max(generation_of(control.get()), last_of_slots(pins))};
    for (const auto& [of_object, fd] : found)
        if (const int error = bpf_map__reuse_fd(of_object, fd.get()); error != 0)
            return fail_errno(-error, fmt::format("take over {}", pins.map(bpf_map__name(of_object))));
    return PinnedMaps{Kind::adopted, {}, 0};
}

Status pin_maps(const std::string& folder, bpf_object* object, const std::string& control)
{
    bpf_map* last = nullptr;
    bpf_map* map = nullptr;
    const auto pin = [&](bpf_map* which, const std::string& name) -> Status {
        const std::string path = folder + "/" + name;
        if (bpf_obj_pin(bpf_map__fd(which), path.c_str()) != 0)
            return fail_errno(errno, fmt::format("pin {}", path));
        return {};
    };
    bpf_object__for_each_map(map, object)
    {
        if (bpf_map__is_internal(map))
            continue;
        if (std::string_view(bpf_map__name(map)) == control_pin)
            last = map;
        else
            BULKHEAD_CHECK(pin(map, bpf_map__name(map)));
    }
    return pin(last, control);
}

std::vector<PinnedObject> pinned_maps(const PinFolder& pins, bpf_object* object)
{
    std::vector<PinnedObject> objects;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, object)
    {
        if (!bpf_map__is_internal(map))
            objects.push_back({pins.map(bpf_map__name(map)), bpf_map__fd(map)});
    }
    return objects;
}

namespace {

// Kind and number of a map or a link: both structures begin with them.
std::pair<__u32, __u32> identity_of(int fd)
{
    bpf_map_info info{};
    __u32 size = sizeof(info);
    if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size) != 0)
        return {0, 0};
    return {info.type, info.id};
}

} // namespace

void inspect_pins(const PinFolder& pins, const std::vector<PinnedObject>& objects, std::vector<Tampering>& found)
{
    std::vector<const PinnedObject*> wrong;
    for (const auto& object : objects) {
        const UniqueFd there(bpf_obj_get(object.path.c_str()));
        if (identity_of(there.get()) != identity_of(object.fd))
            wrong.push_back(&object);
    }
    if (wrong.empty())
        return;
    Tampering tampering{fmt::format("{} of {} pins in {} were removed or replaced: {}{}", wrong.size(), objects.size(),
                                    pins.path(), fs::path(wrong.front()->path).filename().string(),
                                    wrong.size() > 1 ? ", ..." : ""),
                        {}};
    if (const auto prepared = pins.prepare(); !prepared)
        tampering.failure = prepared.error().message;
    for (const auto* object : wrong) {
        (void)::unlink(object->path.c_str());
        if (bpf_obj_pin(object->fd, object->path.c_str()) != 0 && tampering.failure.empty())
            tampering.failure = fmt::format("cannot pin {}: errno {}", object->path, errno);
    }
    found.push_back(std::move(tampering));
}

} // namespace bulkhead::agent
