# SPDX-License-Identifier: Apache-2.0
"""From the network, what no inbound door sees: other protocols, ICMP, many at once, other sources."""

import socket
import struct
import time

from harness import namespaces

from . import packets
from .case import EvasionTest
from .packets import SYN
from .test_raw import TUNNELS
from .wire import Wire

OPEN, SHUT = 7000, 7100
STRANGER4, STRANGER6 = "10.77.0.66", "fd77::66"
GROUP4, GROUP6 = "239.7.7.7", "ff15::7"


class Unheard(EvasionTest):
    """The host with the agent is the target. It hears by raw sockets, which get whatever its interface lets in."""

    POLICY = """
version: 1
segment: target
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: guests, from: {cidr: [PEER4/32, "PEER6/128"]}, service: [tcp/7000-7001, udp/7000-7001]}
"""

    @classmethod
    def arrange(cls):
        super().arrange()
        cls.target = cls.attacker
        with Wire(cls.target) as at_target:
            cls.mac = at_target.mac

    def inject(self, data, mac=None, **options):
        self.wire.inject(mac or self.mac, data, **options)

    def listener(self, kind, protocol, family=socket.AF_INET, port=0):
        with namespaces.inside(self.target.netns):
            opened = socket.socket(family, kind, protocol)
        self.addCleanup(opened.close)
        opened.setblocking(False)
        if port:
            opened.bind(("", port))
        return opened

    def heard(self, listener):
        """Whether the attempt's mark came through."""
        time.sleep(0.05)
        found = False
        try:
            while True:
                found |= self.mark in listener.recv(65536)
        except BlockingIOError:
            return found

    def unheard(self, listener, data, mac=None, tags=(), **conditions):
        self.next_attempt()
        self.inject(data, mac, tags=tags)
        self.recorded(direction="inbound", **conditions)
        self.assertFalse(self.heard(listener), "the target heard it")

    def ends(self, family):
        return (self.peer.ip4, self.target.ip4) if family == 4 else (self.peer.ip6, self.target.ip6)

    def test_other_protocols(self):
        for number, name in TUNNELS.items():
            with self.subTest(protocol=name):
                listener = self.listener(socket.SOCK_RAW, number)
                inner = packets.ipv4(*self.ends(4), 17, packets.udp(*self.ends(4), 4444, OPEN, self.mark))
                self.unheard(listener, packets.ipv4(*self.ends(4), number, inner), protocol=number,
                             src__ip=self.peer.ip4)

    def test_udp_lite(self):
        listener = self.listener(socket.SOCK_DGRAM, 136, port=OPEN)
        self.unheard(listener, packets.ipv4(*self.ends(4), 136, packets.udp(*self.ends(4), 4444, OPEN, self.mark, 136)),
                     protocol=136, src__ip=self.peer.ip4)

    def test_icmp_tunnel(self):
        """Requests, answers to no request, and errors about packets that were never sent; with a payload."""
        listener = self.listener(socket.SOCK_RAW, socket.IPPROTO_ICMP)
        for kind, code in ((8, 0), (0, 0), (3, 3), (11, 0), (5, 1), (12, 0), (13, 0), (15, 0), (40, 0)):
            with self.subTest(type=kind):
                quoted = packets.ipv4(*self.ends(4)[::-1], 17, packets.udp(*self.ends(4)[::-1], 5, 6, self.mark))
                body = quoted if kind in (3, 5, 11, 12) else self.mark
                self.unheard(listener, packets.ipv4(*self.ends(4), 1, packets.icmp(kind, body, code)),
                             protocol="icmp", icmp__type=kind, src__ip=self.peer.ip4)

    def test_icmpv6_tunnel(self):
        listener = self.listener(socket.SOCK_RAW, socket.IPPROTO_ICMPV6, socket.AF_INET6)
        for kind in (128, 129, 1, 3, 4, 139, 200):
            with self.subTest(type=kind):
                quoted = packets.ipv6(*self.ends(6)[::-1], 17, packets.udp(*self.ends(6)[::-1], 5, 6, self.mark))
                body = quoted if kind < 128 else self.mark
                self.unheard(listener, packets.ipv6(*self.ends(6), 58, packets.icmpv6(*self.ends(6), kind, body)),
                             protocol="icmpv6", icmp__type=kind, src__ip=self.peer.ip6)

    def test_neighbour_discovery_from_afar(self):
        """Neighbour discovery passes always, but only what cannot have been routed (RFC 4861: hop limit 255)."""
        listener = self.listener(socket.SOCK_RAW, socket.IPPROTO_ICMPV6, socket.AF_INET6)
        message = packets.icmpv6(*self.ends(6), 136, socket.inet_pton(socket.AF_INET6, self.peer.ip6) + self.mark)
        self.unheard(listener, packets.ipv6(*self.ends(6), 58, message, hops=64), protocol="icmpv6", icmp__type=136)

    def test_icmp_behind_vlan_tags(self):
        """Tags of VLAN 0 are taken off by the kernel, the second one after the interface's hook."""
        listener = self.listener(socket.SOCK_RAW, socket.IPPROTO_ICMP)
        for tags in ([(packets.ETH_VLAN, 0)], [(packets.ETH_QINQ, 0), (packets.ETH_VLAN, 0)],
                     [(packets.ETH_VLAN, 0)] * 2):
            with self.subTest(tags=tags):
                self.unheard(listener, packets.ipv4(*self.ends(4), 1, packets.icmp(8, self.mark)), tags=tags,
                             protocol="icmp", icmp__type=8)

    def test_icmp_in_fragments(self):
        listener = self.listener(socket.SOCK_RAW, socket.IPPROTO_ICMP)
        message = packets.icmp(8, b"x" * 24 + self.mark)
        self.next_attempt()
        for offset, more, data in ((0, 1, message[:8]), (1, 0, message[8:])):
            self.inject(packets.ipv4(*self.ends(4), 1, data, flags=more, offset=offset, identification=77))
        self.recorded(direction="inbound", protocol="icmp")
        self.assertFalse(self.heard(listener))

    def test_multicast_and_broadcast(self):
        """Datagrams to many do not pass the door of a single socket."""
        listener = self.listener(socket.SOCK_DGRAM, 0, port=SHUT)
        membership = socket.inet_aton(GROUP4) + socket.inet_aton(self.target.ip4)
        listener.setsockopt(socket.SOL_IP, socket.IP_ADD_MEMBERSHIP, membership)
        for address, mac in ((GROUP4, "01:00:5e:07:07:07"), ("224.0.0.1", "01:00:5e:00:00:01"),
                             ("10.77.0.255", "ff:ff:ff:ff:ff:ff"), ("255.255.255.255", "ff:ff:ff:ff:ff:ff")):
            with self.subTest(address=address):
                ends = (self.peer.ip4, address)
                self.unheard(listener, packets.ipv4(*ends, 17, packets.udp(*ends, 4444, SHUT, self.mark)), mac,
                             protocol="udp", dst__port=SHUT, dst__ip=address)

    def test_broadcast_frame_to_one_address(self):
        """A packet for this host alone in a frame for all."""
        listener = self.listener(socket.SOCK_DGRAM, 0, port=SHUT + 1)
        self.next_attempt()
        self.inject(packets.ipv4(*self.ends(4), 1, packets.icmp(8, self.mark)), "ff:ff:ff:ff:ff:ff")
        self.recorded(direction="inbound", protocol="icmp", icmp__type=8)
        del listener

    def test_multicast_of_ipv6(self):
        listener = self.listener(socket.SOCK_DGRAM, 0, socket.AF_INET6, SHUT)
        index = struct.pack("=I", self.target.call(socket.if_nametoindex, "eth0", daemon=True))
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP,
                            socket.inet_pton(socket.AF_INET6, GROUP6) + index)
        for address, mac in ((GROUP6, "33:33:00:00:00:07"), ("ff02::1", "33:33:00:00:00:01")):
            with self.subTest(address=address):
                ends = (self.peer.ip6, address)
                self.unheard(listener, packets.ipv6(*ends, 17, packets.udp(*ends, 4444, SHUT, self.mark)), mac,
                             protocol="udp", dst__port=SHUT, dst__ip=address)

    def test_source_spoofing(self):
        """From outside with an address that only this host has, which failsafes would let in."""
        listener = self.listener(socket.SOCK_DGRAM, 0, socket.AF_INET6, SHUT)
        for source in (self.target.ip6, "::1"):
            with self.subTest(source=source):
                ends = (source, self.target.ip6)
                self.unheard(listener, packets.ipv6(*ends, 17, packets.udp(*ends, 4444, SHUT, self.mark)),
                             protocol="udp", src__ip=source, reason="malformed")
        listener4 = self.listener(socket.SOCK_RAW, socket.IPPROTO_ICMP)
        for source in (self.target.ip4, "127.0.0.1"):
            with self.subTest(source=source):
                self.unheard(listener4, packets.ipv4(source, self.target.ip4, 1, packets.icmp(8, self.mark)),
                             protocol="icmp", src__ip=source, reason="malformed")

    def test_source_route(self):
        listener = self.listener(socket.SOCK_RAW, socket.IPPROTO_UDP)
        for kind in (131, 137):
            with self.subTest(option=kind):
                route = struct.pack("!BBB4sB", kind, 7, 8, socket.inet_aton(STRANGER4), 0)
                data = packets.udp(*self.ends(4), 4444, OPEN, self.mark)
                self.unheard(listener, packets.ipv4(*self.ends(4), 17, data, options=route), reason="malformed",
                             src__ip=self.peer.ip4)
        listener6 = self.listener(socket.SOCK_RAW, socket.IPPROTO_UDP, socket.AF_INET6)
        for kind in (0, 2, 4):
            with self.subTest(routing_header=kind):
                header = struct.pack("!BBBBI16s", 17, 2, kind, 1, 0, socket.inet_pton(socket.AF_INET6, STRANGER6))
                data = packets.udp(*self.ends(6), 4444, OPEN, self.mark)
                self.unheard(listener6, packets.ipv6(*self.ends(6), 43, header + data), reason="malformed",
                             src__ip=self.peer.ip6)

    def test_what_is_allowed_is_heard(self):
        listener = self.listener(socket.SOCK_RAW, socket.IPPROTO_UDP)
        self.inject(packets.ipv4(*self.ends(4), 17, packets.udp(*self.ends(4), 4444, OPEN, self.mark)))
        self.assertTrue(self.heard(listener))
        self.assertEqual(self.agent.violations("--from", self.peer.ip4) and [
            record for record in self.agent.violations() if record["time"] >= self.began], [])
