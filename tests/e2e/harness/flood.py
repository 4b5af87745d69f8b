# SPDX-License-Identifier: Apache-2.0
"""A flood of SYNs by a wire of its own, so that its device counts nothing else."""

import ctypes
import fcntl
import json
import os
import socket
import struct
import subprocess
from pathlib import Path

from . import namespaces
from .bulkhead import BUILD
from .lab import PYTHON, Host, wait_until

SENDER = BUILD / "tests" / "e2e" / "send_syns"
DEVICE = "flood0"
TO, FROM = "10.79.0.1", "10.79.0.2"
TO_MAC, FROM_MAC = "02:79:00:00:00:01", "02:79:00:00:00:02"
NOBODY_MAC = "02:79:00:00:00:03"  # who floods throws answers away
PORT, PORTS = 10000, 1000

_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C  # linux/sockios.h, linux/ethtool.h

# A port without a listener is judged below the root cgroup only.
LISTEN = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
first, ports = map(int, sys.argv[1:])
sockets = [socket.create_server(("", port)) for port in range(first, first + ports)]
print("ready", flush=True)
sys.stdin.read()
"""


def _turn_on_gro():
    """NAPI on a veth, without which it takes no frames of XDP (drivers/net/veth.c)."""
    value = ctypes.create_string_buffer(struct.pack("II", _ETHTOOL_SGRO, 1))
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, struct.pack("16sQ16x", DEVICE.encode(), ctypes.addressof(value)))


class FloodWire:
    """Between a host and who floods it. Each processor has a queue, as on a network card."""

    def __init__(self, host: Host, attacker: Host):
        self.host, self.attacker = host, attacker
        queues = f"numrxqueues {os.cpu_count()} numtxqueues {os.cpu_count()}"
        namespaces.batch(host.netns, [f"link add {DEVICE} address {TO_MAC} {queues} type veth peer name {DEVICE} "
                                      f"address {FROM_MAC} {queues} netns {attacker.netns}"])
        for netns, own, other, mac in ((host.netns, TO, FROM, NOBODY_MAC), (attacker.netns, FROM, TO, TO_MAC)):
            namespaces.batch(netns, [f"link set {DEVICE} addrgenmode none", f"addr add {own}/24 dev {DEVICE}",
                                     f"link set {DEVICE} up",
                                     f"neigh replace {other} lladdr {mac} dev {DEVICE} nud permanent"])
        with namespaces.inside(host.netns):
            _turn_on_gro()

    def listen(self, unit):
        """On every port of the flood."""
        process = self.host.pipe(PYTHON, "-c", LISTEN, PORT, PORTS, unit=unit)
        if process.stdout.readline() != "ready\n":
            raise AssertionError("the listeners did not start")

    def receive_on(self, cpu):
        """The host takes what comes in a thread on this processor, and what is too much for it is dropped. None: where it
        is sent, before more is sent, as it is at first."""
        before = set(_receivers())
        # Another way than that into the namespace shows the /sys of this one.
        self.host.run("ip", "netns", "exec", self.host.netns, "sh", "-c",
                      f"echo {int(cpu is not None)} >/sys/class/net/{DEVICE}/threaded", daemon=True).check()
        for pid in set(_receivers()) - before:
            os.sched_setaffinity(pid, {cpu})

    def counts(self) -> tuple[int, int]:
        """(frames that the host took from the wire, frames for which its device had no room)"""
        shown = subprocess.run(["ip", "-n", self.host.netns, "-s", "-j", "link", "show", DEVICE], capture_output=True,
                               text=True, check=True).stdout
        rx = json.loads(shown)[0]["stats64"]["rx"]
        return rx["packets"], rx["dropped"]

    def begin(self, count, rate=0, cpus=None) -> "Flood":
        return Flood(self, count, rate, cpus or range(os.cpu_count()))


class Flood:
    """SYNs under way from each of these processors; `rate`: a second, 0 for as many as it can make."""

    def __init__(self, wire: FloodWire, count, rate, cpus):
        self.wire, self.before = wire, wire.counts()
        self.count = count - count % len(cpus)
        self.process = wire.attacker.pipe(
            "taskset", "--cpu-list", ",".join(map(str, cpus)), SENDER, "--device", DEVICE, "--receiver", TO_MAC,
            "--from", FROM, "--to", TO, "--port", PORT, "--ports", PORTS, "--count", self.count, "--rate", rate,
            "--threads", len(cpus), daemon=True)

    def under_way(self) -> bool:
        return self.process.poll() is None

    def taken(self) -> int:
        return self.wire.counts()[0] - self.before[0]

    def end(self) -> dict:
        """{"way", "sent", "seconds"}, and what became of it: "taken", "dropped"."""
        said, _ = self.process.communicate(timeout=60)
        if self.process.returncode != 0:
            raise AssertionError(f"send_syns: exit code {self.process.returncode}")
        done = json.loads(said)

        def arrived():
            taken, dropped = (now - then for now, then in zip(self.wire.counts(), self.before))
            return taken + dropped >= done["sent"] and {"taken": taken, "dropped": dropped}
        return done | wait_until(arrived, 5, "each SYN was taken or dropped")


def _receivers():
    """The threads in which devices of this name receive."""
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            if comm.read_text().startswith(f"napi/{DEVICE}"):
                yield int(comm.parent.name)
        except OSError:  # it has ended
            pass
