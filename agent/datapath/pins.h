// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/datapath/bpf_objects.h"
#include "agent/datapath/datapath.h"
#include "common/core/result.h"

#include <string>
#include <vector>

namespace bulkhead::agent {

// The folder of one instance on a bpf file system: <pin_dir>/<instance>/{maps,links}.
class PinFolder {
public:
    explicit PinFolder(const DatapathOptions& options);

    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::string map(const std::string& name) const { return path_ + "/maps/" + name; }
    [[nodiscard]] std::string link(const std::string& name) const { return path_ + "/links/" + name; }

    // Names of the pinned links; none where the folder cannot be read.
    [[nodiscard]] std::vector<std::string> links() const;

    // Mounts a bpf file system if there is none, and makes the folders.
    [[nodiscard]] Status prepare() const;
    // Detaches every pinned link, then removes all pins and the folder. True when there was something.
    [[nodiscard]] Result<bool> remove() const;
    // Removes the folders if nothing is in them.
    void remove_if_empty() const;

private:
    std::string base_, path_;
};

// Something that is pinned, and a descriptor of what should be there.
struct PinnedObject {
    std::string path;
    int fd = -1;
};
// Pins again what is missing or was replaced.
void inspect_pins(const PinFolder& pins, const std::vector<PinnedObject>& objects, std::vector<Tampering>& found);
[[nodiscard]] std::vector<PinnedObject> pinned_maps(const PinFolder& pins, bpf_object* object);

// What to do about pins that do not fit this program.
inline constexpr const char* mend_pins =
    "remove what is pinned with `bulkheadd --detach` and start again; until then nothing is enforced";

// What is pinned: nothing, maps that fit the object, or maps of a version whose layout is another one.
struct PinnedMaps {
    enum class Kind { none, adopted, other_layout };
    Kind kind = Kind::none;
    std::string difference;       // other_layout: in what, in words
    std::uint32_t generation = 0; // the highest that was given there
};

// Makes the maps that are pinned the maps of the object that is about to be loaded, if all of them fit. Pins that an
// interrupted first start left without a control word enforce nothing and are removed.
[[nodiscard]] Result<PinnedMaps> adopt_pinned_maps(const PinFolder& pins, bpf_object* object);

// The control word is pinned last: where it has its name, everything is pinned.
inline constexpr const char* control_pin = "bh_control";
// Pins all maps in a folder.
[[nodiscard]] Status pin_maps(const std::string& folder, bpf_object* object, const std::string& control = control_pin);

} // namespace bulkhead::agent
