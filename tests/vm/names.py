# SPDX-License-Identifier: Apache-2.0
"""What can be asked for: RELEASE[:KERNEL][:VARIANT...]."""

import dataclasses

import images

# What is added to the kernel's command line.
VARIANTS = {
    "lsm": "lsm=lockdown,yama,apparmor,bpf",
    "nolsm": "lsm=lockdown,yama,apparmor",
    "hybrid": "systemd.unified_cgroup_hierarchy=0",
}
# systemd 256 and later refuse to boot with the hierarchies of old.
UNIFIED_ONLY = ("trixie",)
QUICK_START = "quick-start"
# Beside each kernel of each release.
MORE = (
    "bookworm:6.1:nolsm", "bookworm:6.1:hybrid", "bookworm:5.10:lsm", "bookworm:6.1:quick-start", "trixie:6.12:quick-start",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Setup:
    image: str  # RELEASE:KERNEL
    variants: tuple[str, ...]

    def __str__(self):
        return ":".join((self.image, *self.variants))

    @property
    def tests(self):
        return "test_quick_start" if QUICK_START in self.variants else "test_host"

    @property
    def kernel_options(self):
        return " ".join(VARIANTS[variant] for variant in self.variants if variant in VARIANTS)


def parse(name):
    release, *words = name.split(":")
    kernel = words.pop(0) if words and words[0] not in (*VARIANTS, QUICK_START) else ""
    for word in words:
        if word not in (*VARIANTS, QUICK_START):
            raise ValueError(f"no variant '{word}'; there are {', '.join((*VARIANTS, QUICK_START))}")
    if {"lsm", "nolsm"} <= set(words):
        raise ValueError("'lsm' and 'nolsm' exclude each other")
    setup = Setup(":".join(images.parse(f"{release}:{kernel}")), tuple(words))
    if "hybrid" in words and release in UNIFIED_ONLY:
        raise ValueError(f"the systemd of {release} does not boot with a hybrid cgroup hierarchy")
    return setup


def everything():
    names = [f"{release}:{kernel}" for release, kernels in images.RELEASES.items() for kernel in kernels]
    return [parse(name) for name in (*names, *MORE)]
