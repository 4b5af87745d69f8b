# SPDX-License-Identifier: Apache-2.0
"""How often the programs of agents run, and how long, as the kernel counts it."""

import contextlib
import ctypes
import json
import os
import struct
import subprocess
from dataclasses import dataclass

SYS_BPF = {"x86_64": 321, "aarch64": 280}
BPF_ENABLE_STATS, BPF_STATS_RUN_TIME = 32, 0  # linux/bpf.h; Linux 5.8
OF_ALL_PROCESSES = ("tracing", "raw_tracepoint")  # types that run for the whole machine


def bpf(command, attributes) -> int:
    """bpf(2), without a library. What the attributes point to must live until it returns."""
    data = ctypes.create_string_buffer(attributes.ljust(144, b"\0"), 144)
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(SYS_BPF[os.uname().machine], command, data, 144)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"bpf command {command}: {os.strerror(ctypes.get_errno())}")
    return result


@contextlib.contextmanager
def counted():
    """The kernel counts, for as long as this lasts, also if the process is killed (unlike by the sysctl)."""
    counting = bpf(BPF_ENABLE_STATS, struct.pack("<I", BPF_STATS_RUN_TIME))
    try:
        yield
    finally:
        os.close(counting)


@dataclass
class Runs:
    count: int = 0
    nanoseconds: int = 0

    def __add__(self, other):
        return Runs(self.count + other.count, self.nanoseconds + other.nanoseconds)

    def __sub__(self, other):
        return Runs(self.count - other.count, self.nanoseconds - other.nanoseconds)


def shown(what, *which):
    done = subprocess.run(["bpftool", "-j", what, "show", *map(str, which)], capture_output=True, check=True)
    return json.loads(done.stdout)


def runs_of(program) -> Runs:
    return Runs(program.get("run_cnt", 0), program.get("run_time_ns", 0))


def runs_by_pin(folders) -> dict[str, Runs]:
    """By the name of the pinned link, of all agents with these pin folders together; programs that run for traffic."""
    found: dict[str, Runs] = {}
    for folder in folders:
        for pin in sorted((folder / "links").iterdir()):
            program = shown("prog", "id", shown("link", "pinned", pin)["prog_id"])
            if program["type"] not in OF_ALL_PROCESSES:
                found[pin.name] = found.get(pin.name, Runs()) + runs_of(program)
    return found
