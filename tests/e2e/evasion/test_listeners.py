# SPDX-License-Identifier: Apache-2.0
"""Ports that belong to an allowed unit, and others who want to hear there too."""

import os
import socket
import struct
import time

from harness import namespaces
from harness.lab import PYTHON, wait_until

from . import packets
from .case import EvasionTest
from .packets import RST, SYN
from .wire import Wire

# A server on a shared port: says which source ports it heard from. Kind "bound": of TCP, and never listens.
SERVER = """
import socket, sys, time
kind, address, port, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
                       socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if device:
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
if port:
    opened.bind((address, port))
if kind == "tcp":
    opened.listen(64)
print(opened.getsockname()[1], flush=True)
while kind == "bound":
    time.sleep(1)
while True:
    print((opened.accept()[1] if kind == "tcp" else opened.recvfrom(100)[1])[1], flush=True)
"""
CLOSES_FIRST = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", int(sys.argv[1])))
listener.listen(8)
print("ready", flush=True)
while True:
    accepted = listener.accept()[0]
    accepted.shutdown(socket.SHUT_WR)
    accepted.recv(1)
    accepted.close()
"""
IPPROTO_MPTCP = 262
STOLEN, BATCH, CHANGING = 7002, 7003, 7004


class Listeners(EvasionTest):
    """The host with the agent is the target here; the thief runs on it, and its accomplice on the peer."""

    POLICY = """
version: 1
segment: target
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: db, from: any, service: [tcp/7002, udp/7002], process: {unit: db.service}}
  - {id: all, from: any, service: [tcp/7003, udp/7003]}
  - {id: changing, from: any, service: [tcp/7004]}
deny:
  - {id: not-batch, from: any, service: [tcp/7003, udp/7003], process: {unit: batch.service}}
"""

    @classmethod
    def arrange(cls):
        super().arrange()
        cls.target = cls.attacker
        with Wire(cls.target) as at_target:
            cls.target_mac = at_target.mac

    @classmethod
    def guard(cls, host, policy, role, **options):
        for unit in ("db.service", "batch.service", "session.scope"):
            (host.cgroup / unit).mkdir(exist_ok=True)
        return super().guard(host, policy, role, **options)

    def serve(self, unit, kind, port, address="0.0.0.0", device=""):
        process = self.target.pipe(PYTHON, "-c", SERVER, kind, address, port, device, unit=unit)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        process.port = int(process.stdout.readline())
        os.set_blocking(process.stdout.fileno(), False)
        return process

    @staticmethod
    def heard(process):
        try:
            return [int(line) for line in os.read(process.stdout.fileno(), 65536).split()]
        except BlockingIOError:
            return []

    def knock(self, kind, port, times=24, address=None):
        """How many connections of the peer, each from a port of its own, were taken."""
        taken = 0
        for _ in range(times):
            with namespaces.inside(self.peer.netns):
                opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
            with opened:
                opened.settimeout(1)
                try:
                    opened.connect((address or self.target.ip4, port))
                    opened.send(b"x")
                    taken += 1
                except OSError:
                    pass
        time.sleep(0.1)
        return taken

    def share(self, kind, port, owner, thief, first, **bound):
        """Two units on one port, in either order: nothing reaches the thief."""
        order = [(owner, {}), (thief, bound)]
        processes = {}
        for unit, options in order if first == owner else reversed(order):
            processes[unit] = self.serve(unit, kind, port, **options)
        self.knock(kind, port)
        self.assertEqual(self.heard(processes[thief]), [], "the thief heard them")
        self.recorded(direction="inbound", protocol=kind, dst__port=port)
        processes[thief].kill()
        processes[thief].wait()
        wait_until(lambda: self.knock(kind, port, 1) and self.heard(processes[owner]), 5, "the owner hears again", 0.1)
        for process in processes.values():
            process.kill()
            process.wait()

    def test_reuseport_theft_of_an_allowed_units_port(self):
        for kind in ("tcp", "udp"):
            for first in ("db.service", "session.scope"):
                with self.subTest(kind=kind, first=first):
                    self.share(kind, STOLEN, "db.service", "session.scope", first)

    def test_reuseport_by_a_denied_unit(self):
        for kind in ("tcp", "udp"):
            for first in ("echo.service", "batch.service"):
                with self.subTest(kind=kind, first=first):
                    self.share(kind, BATCH, "echo.service", "batch.service", first)

    def test_a_more_specific_socket(self):
        """The kernel prefers the exact address, and a socket that is bound to the interface."""
        for kind in ("tcp", "udp"):
            for first in ("db.service", "session.scope"):
                for bound in ({"address": self.target.ip4}, {"device": "eth0"}, {"address": "::", "device": "eth0"}):
                    with self.subTest(kind=kind, first=first, bound=bound):
                        self.share(kind, STOLEN, "db.service", "session.scope", first, **bound)

    def test_a_more_specific_socket_after_a_walk(self):
        """What the agent writes when it has walked the sockets says so, too, whichever of the two came first."""
        for kind in ("tcp", "udp"):
            with self.subTest(kind=kind):
                owner = self.serve("db.service", kind, STOLEN)
                thief = self.serve("session.scope", kind, STOLEN, address="::", device="eth0")
                self.walk()
                self.knock(kind, STOLEN)
                self.assertEqual(self.heard(thief), [], "the thief heard them")
                self.recorded(direction="inbound", protocol=kind, dst__port=STOLEN)
                for process in (thief, owner):
                    process.kill()
                    process.wait()

    def walk(self):
        """A changed policy that is put in force makes the agent walk all sockets."""
        file = self.target.dir / "policies" / "policy.yaml"
        before = self.agent.status()["policy_version"]
        fresh = file.with_name(".new")
        fresh.write_text(file.read_text() + f"  - {{id: after-{before}, from: any, service: [tcp/7009]}}\n")
        fresh.rename(file)
        wait_until(lambda: self.agent.status()["policy_version"] > before, 5, "the policy is in force", 0.05)
        time.sleep(0.2)  # the walk comes after the switch

    def test_a_more_specific_socket_that_does_not_listen(self):
        """Another user's, there before the server, which hears what it would hear without it."""
        squatter = self.target.pipe(PYTHON, "-c", SERVER, "bound", self.target.ip4, STOLEN, "", user="nobody")
        self.addCleanup(squatter.wait)
        self.addCleanup(squatter.kill)
        self.assertEqual(squatter.stdout.readline(), f"{STOLEN}\n")
        server = self.serve("db.service", "tcp", STOLEN)
        self.assertEqual(self.knock("tcp", STOLEN), 24)
        self.assertEqual(len(self.heard(server)), 24)

    def test_an_mptcp_socket_that_was_closed(self):
        """It leaves nothing at the port that it had."""
        def bind(listen):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP) as opened:
                opened.bind((self.target.ip4, STOLEN))
                if listen:
                    opened.listen()
        try:
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
        except OSError as error:
            self.skipTest(f"no MPTCP here: {error}")
        before = len(self.listeners())
        for listen in (False, True):
            self.permitted(bind, listen, user="nobody")
            self.assertEqual(len(self.listeners()), before)
        server = self.serve("db.service", "tcp", STOLEN)
        self.assertEqual(self.knock("tcp", STOLEN), 24)
        server.kill()

    def listeners(self):
        return self.agent.local("maps", "listeners", "--limit", "0").check().stdout.splitlines()

    def test_listening_without_having_bound(self):
        """listen(2) on a fresh socket takes a port of its own choice, past the bind hooks."""
        server = self.serve("session.scope", "tcp", 0)
        self.assertEqual(self.knock("tcp", server.port, 1), 0)
        self.recorded(direction="inbound", protocol="tcp", dst__port=server.port)

    def test_time_wait_is_no_way_in(self):
        """A port that is refused from now on, and a SYN for a connection that has just ended there."""
        server = self.target.pipe(PYTHON, "-c", CLOSES_FIRST, CHANGING, unit="echo.service")
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        server.stdout.readline()
        with namespaces.inside(self.peer.netns):
            opened = socket.socket()
        with opened:
            opened.settimeout(2)
            opened.bind(("", 33333))
            opened.connect((self.target.ip4, CHANGING))
            self.assertEqual(opened.recv(1), b"")
        expected = struct.unpack("!I", self.wire.matching(port=33333)[-1].raw[42:46])[0]  # its next sequence number
        state = self.target.run("ss", "-Htan", "state", "time-wait", daemon=True).stdout
        self.assertIn(":33333", state)
        file = self.target.dir / "policies" / "policy.yaml"
        text = file.read_text()
        self.addCleanup(file.write_text, text)
        fresh = file.with_name(".new")
        fresh.write_text(text.replace("tcp/7004", "tcp/7005"))
        fresh.rename(file)
        wait_until(lambda: self.knock("tcp", CHANGING, 1) == 0, 5, "the port is refused", 0.05)
        self.wire.clear()
        segment = packets.tcp(self.peer.ip4, self.target.ip4, 33333, CHANGING, SYN, seq=expected + 100000 & 0xFFFFFFFF)
        self.wire.inject(self.target_mac, packets.ipv4(self.peer.ip4, self.target.ip4, 6, segment))
        self.recorded(direction="inbound", protocol="tcp", dst__port=CHANGING)  # counted with the knocks before
        self.assertFalse([packet for packet in self.wire.matching(port=33333) if packet.flags & (SYN | RST) == SYN])
