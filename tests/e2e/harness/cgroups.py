# SPDX-License-Identifier: Apache-2.0
"""cgroup v2 folders: made, ended and removed. See Documentation/admin-guide/cgroup-v2.rst."""

import os
import signal
import time
from pathlib import Path


def root() -> Path:
    """The cgroup v2 mount, below /sys/fs/cgroup/unified on hybrid hierarchies."""
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        for line in mounts:
            _, where, kind, *_ = line.split()
            if kind == "cgroup2":
                return Path(where)
    raise RuntimeError("no cgroup v2 hierarchy is mounted; mount -t cgroup2 none /sys/fs/cgroup/unified")


def create(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def members(path: Path) -> list[int]:
    """Processes of the folder and of all below it."""
    pids = []
    for folder, _, _ in os.walk(path):
        try:
            pids += [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()]
        except (FileNotFoundError, OSError):
            continue
    return pids


def kill(path: Path, timeout: float = 5.0) -> None:
    """Ends exactly the processes of this folder, and waits until they are gone."""
    deadline = time.monotonic() + timeout
    while path.exists() and (pids := members(path)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path}: processes {pids} do not end")
        try:
            Path(path, "cgroup.kill").write_text("1")
        except OSError:  # before Linux 5.14
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        time.sleep(0.01)


def remove(path: Path, timeout: float = 5.0) -> None:
    """Ends the processes and removes the folder with all below it."""
    if not path.exists():
        return
    kill(path, timeout)
    deadline = time.monotonic() + timeout
    for folder, _, _ in os.walk(path, topdown=False):
        while True:
            try:
                os.rmdir(folder)
                break
            except FileNotFoundError:
                break
            except OSError:  # the last process has not been reaped yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
