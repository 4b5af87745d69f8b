# SPDX-License-Identifier: Apache-2.0
"""Network namespaces joined by a bridge that lives in a namespace of its own."""

import contextlib
import ctypes
import os
import subprocess
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def enter(name: str) -> None:
    """Moves the calling thread. Unlike `ip netns exec` it leaves /sys alone, so cgroups and bpffs stay in sight."""
    fd = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"setns({name}): {os.strerror(error)}")
    finally:
        os.close(fd)


@contextlib.contextmanager
def inside(name: str):
    """Runs the block in the namespace; a socket that is opened there stays there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(name)
        yield
    finally:
        if _libc.setns(home, _CLONE_NEWNET) != 0:
            os.abort()  # nothing after this may run in a namespace that it does not expect
        os.close(home)


def batch(name: str, commands: list[str]) -> None:
    subprocess.run(["ip", "-n", name, "-batch", "-"], input="\n".join(commands) + "\n", text=True, check=True,
                   capture_output=True)


def exists(name: str) -> bool:
    return Path("/run/netns", name).exists()


def add(name: str) -> None:
    subprocess.run(["ip", "netns", "add", name], check=True, capture_output=True)
    batch(name, ["link set lo up"])


def delete(name: str) -> None:
    if exists(name):
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def make_fabric(name: str) -> None:
    add(name)
    # Snooping would hold back neighbour discovery until the first listener report; nothing loops, so no spanning tree.
    batch(name, ["link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0", "link set br0 up"])


def plug(fabric: str, name: str, port: str, addresses: list[str]) -> None:
    """Gives the namespace an eth0 on the fabric's bridge."""
    batch(fabric, [f"link add {port} type veth peer name eth0 netns {name}", f"link set {port} master br0 up"])
    batch(name, [f"addr add {address} dev eth0{' nodad' if ':' in address else ''}" for address in addresses]
          + ["link set eth0 up"])
