# SPDX-License-Identifier: Apache-2.0
"""Root of a namespace on the host's link uses what the kernel gives whoever administers a network: routes, filters."""

import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import time

from harness import cgroups
from harness.lab import BPFFS

from . import packets
from .case import ALLOWED
from .inner import NOBODY4, SECOND4, InnerTest

SIOCGIFHWADDR = 0x8927


class Administrators(InnerTest):
    def setUp(self):
        super().setUp()
        self.macvlan()

    def guards_mark(self):
        """Which nobody but root of the host can know, of this moment: bh_mark_of() in common/abi/bulkhead.h."""
        if not shutil.which("bpftool"):
            self.skipTest("no bpftool here")
        instance = "-".join(self.attacker.cgroup.relative_to(cgroups.root()).parts)
        pin = BPFFS / "bulkhead" / instance / "maps" / "bh_mark_secret"
        dumped = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", pin], capture_output=True, check=True)
        secret = struct.unpack("=QQ", bytes(int(byte, 16) for byte in json.loads(dumped.stdout)[0]["value"]))

        def scatter(bits):
            for shift, factor in ((30, 0xbf58476d1ce4e5b9), (27, 0x94d049bb133111eb), (31, 1)):
                bits = (bits ^ bits >> shift) * factor % 2**64
            return bits
        turn = time.monotonic_ns() >> 31
        return scatter(scatter(turn ^ secret[0]) ^ secret[1]) >> 48 or 1

    def test_a_mark_of_the_guards_on_what_it_routes(self):
        """The guard leaves it on what it has let pass where it entered (tc_index), and a filter's class is the same."""
        self.within("link add a0 type veth peer name b0", "addr add 10.88.5.1/24 dev b0", "link set a0 up",
                    "link set b0 up")
        self.addCleanup(self.within, "link del a0")
        self.administer("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
                        "net.ipv4.conf.b0.rp_filter=0").check()
        self.administer("tc", "qdisc", "add", "dev", "mv0", "clsact").check()
        self.administer("tc", "filter", "add", "dev", "mv0", "egress", "protocol", "all", "u32", "match", "u32", "0",
                        "0", "flowid", f"1:{self.guards_mark():x}").check()

        def attack():
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                there = fcntl.ioctl(opened, SIOCGIFHWADDR, struct.pack("16s16x", b"b0"))[18:24]
                frame = there + bytes(6) + b"\x08\x00" + self.raw("10.88.5.2", self.port)
                for _ in range(3):  # the first may be lost to address lookup
                    opened.sendto(frame, ("a0", 0x0800))
                    time.sleep(0.3)
        self.next_attempt()
        self.assertEqual(self.inside(attack), "")
        self.recorded(protocol="udp", src__ip="10.88.5.2", dst__ip=self.peer.ip4, dst__port=self.port)
        self.nothing_arrived()

    def test_a_copy_of_a_packet(self):
        self.copy_what_is_sent(self.peer.ip4)
        opening = packets.tcp(SECOND4, self.peer.ip4, 4444, self.port)
        data = packets.tcp(SECOND4, self.peer.ip4, 4444, self.port, packets.ACK, self.mark)
        for protocol, payload in ((6, opening), (6, data), (1, packets.icmp(8, self.mark)), (1, packets.icmp(0, self.mark))):
            with self.subTest(protocol=protocol, payload=payload):
                self.next_attempt()
                self.inside(self.send_raw, packets.ipv4(SECOND4, self.peer.ip4, protocol, payload), self.peer.ip4)
                self.recorded(src__ip=SECOND4, dst__ip=self.peer.ip4)
                self.nothing_arrived()
                self.assertEqual(self.wire.matching(source=SECOND4, protocol=protocol), [])

    def test_the_peers_address_made_ones_own(self):
        self.hear(self.peer, socket.SOCK_STREAM, self.port)
        self.own_but_elsewhere()

        def attack():
            with socket.create_connection((self.peer.ip4, self.port), 1) as opened:
                opened.sendall(self.mark)
        self.assertNotEqual(self.inside(attack), "")
        self.told_and_stopped("tcp")

    def test_the_peers_address_made_ones_own_for_a_moment(self):
        """A connection's first segment is sent again a second later."""
        self.own_but_elsewhere()

        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
                opened.setblocking(False)
                opened.connect_ex((self.peer.ip4, self.port))
                self.no_longer_own()
                time.sleep(2.5)
        self.inside(attack)
        self.told_and_stopped("tcp")

    def test_datagrams_to_what_was_ones_own(self):
        self.own_but_elsewhere()

        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.connect((self.peer.ip4, self.port))
                self.no_longer_own()
                opened.send(self.mark)
        self.inside(attack)
        self.told_and_stopped("udp")

    def test_datagrams_that_wait_until_it_is_ones_own_no_longer(self):
        """For the link-layer address of the next hop."""
        self.own_but_elsewhere(f"via {NOBODY4}")

        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.sendto(self.mark, (self.peer.ip4, self.port))
                opened.sendto(self.mark, ("127.0.0.1", self.port))
                self.no_longer_own()
                os.system(f"ip neigh replace {NOBODY4} lladdr {self.wire.mac} dev mv0")
                time.sleep(0.3)
        self.inside(attack)
        self.told_and_stopped("udp")

    def test_a_connection_to_oneself_that_is_given_away(self):
        self.own()
        self.assertEqual(self.inside(self.give_connection_away), "")
        self.told_and_stopped("tcp")

    def test_answers_to_oneself_that_are_given_away(self):
        self.own()

        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, \
                 socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                server.bind((SECOND4, 5353))
                client.bind((self.peer.ip4, self.port))
                client.sendto(b"asked", (SECOND4, 5353))
                server.recvfrom(64)
                self.no_longer_own()
                server.sendto(self.mark, (self.peer.ip4, self.port))
        self.assertEqual(self.inside(attack), "EPERM")
        self.told_and_stopped("udp")

    def test_what_is_allowed_goes_on(self):
        """Also of a socket that has been let go to its own namespace's addresses."""
        self.administer("ip", "link", "set", "lo", "up").check()

        def converse():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.sendto(b"to nobody", (SECOND4, 9))
                opened.sendto(self.mark, (self.peer.ip4, ALLOWED))
            with socket.create_connection((self.peer.ip4, ALLOWED), 2) as connection:
                connection.sendall(self.mark[::-1])
        time.sleep(1.5)
        self.assertEqual(self.inside(converse), "")
        self.wire.wait(content=self.mark, port=ALLOWED)
        self.wire.wait(content=self.mark[::-1], port=ALLOWED)
