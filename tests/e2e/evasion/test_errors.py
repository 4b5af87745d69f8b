# SPDX-License-Identifier: Apache-2.0
"""ICMP errors about datagrams that nobody sent: the kernel looks up whose they were as for a datagram that arrives."""

import itertools
import os
import select
import socket
import struct
import threading
import time

from harness import namespaces

from . import packets
from .case import EvasionTest, family_of
from .wire import Wire

HEARD = 7001
IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_MTU = 10, 2, 14  # linux/in.h
UDP_GRO = 104  # linux/udp.h
STRANGER4, STRANGER6 = "10.77.0.66", "fd77::66"


def take_together(opened, _):
    opened.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)


def connect_to_itself(opened, local):
    opened.connect((local[0], 9))


def send_after(forge, local, remote, data, before=None):
    """What the helper does from elsewhere, `forge` does here, between bind(2) and sendto(2)."""
    with socket.socket(family_of(local[0]), socket.SOCK_DGRAM) as opened:
        opened.bind(local)
        if before:
            before(opened, local)
        forge()
        time.sleep(0.05)
        opened.sendto(data, remote)


def answer_large(local, remote, data, release):
    """An unconnected socket answers with what the path may turn out to be too narrow for, and stays until released."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        opened.bind(local)
        opened.settimeout(2)
        opened.recvfrom(100)
        opened.sendto(data, remote)
        select.select([release], [], [], 5)


class Errors(EvasionTest):
    """A helper on the network, who needs to be no peer, makes up the error; a process on the host wants to send."""

    POLICY = """
version: 1
segment: attacker
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: guests, from: {cidr: [PEER4/32, "PEER6/128"]}, service: [udp/7001]}
  - {id: errors, from: {cidr: [STRANGERS]}, service: [icmp, icmpv6]}
""".replace("STRANGERS", f'{STRANGER4}/32, "{STRANGER6}/128"')

    @classmethod
    def arrange(cls):
        super().arrange()
        with Wire(cls.attacker) as at_attacker:
            cls.mac = at_attacker.mac

    def quoting(self, helper, quoted, own, kind, code=0, mtu=1280):
        """An error that says it is about the packet `quoted`; the place of `mtu` is the same in both families."""
        rest = mtu.to_bytes(4, "big")
        if packets.is_v6(own):
            return packets.ipv6(helper, own, 58, packets.icmpv6(helper, own, kind, quoted, code, rest))
        return packets.ipv4(helper, own, 1, packets.icmp(kind, quoted, code, rest))

    def quotes(self, own, peer):
        """Packets that were never sent, as errors may quote them, by name."""
        datagram = packets.udp(own, peer, HEARD, self.port, b"12345678")
        # Asked for a second time like this, where a socket hears for a tunnel (__udp4_lib_err_encap).
        turned = packets.udp(own, peer, self.port, HEARD, b"12345678")
        found = {"a datagram": packets.ip(own, peer, 17, datagram),
                 "a datagram to its port": packets.ip(own, peer, 17, turned)}  # fmt: skip
        if not packets.is_v6(own):
            return found | {
                "a later fragment": packets.ipv4(own, peer, 17, datagram, offset=64),
                "behind options": packets.ipv4(own, peer, 17, datagram, options=b"\x01\x01\x01\x00"),
            }
        authentication = struct.pack("!BBHII", 17, 1, 0, 1, 1)  # RFC 4302, without a check value
        route = struct.pack("!BBBBI", 17, 2, 4, 0, 0) + packets.packed(peer)  # RFC 8754: nothing left of its way
        return found | {
            "a later fragment": packets.ipv6(own, peer, 44, packets.fragment_header(17, 64, 0) + datagram),
            "behind options": packets.ipv6(own, peer, 60, packets.extension(17) + datagram),
            "behind an authentication header": packets.ipv6(own, peer, 51, authentication + datagram),
            "a routed one": packets.ipv6(own, STRANGER6, 43, route + datagram),
        }

    def errors(self, own, peer, kinds=None):
        """By whom the rules say nothing, and by whom they let send all of ICMP; each about a port that is new to both."""
        v6 = packets.is_v6(own)
        kinds = kinds or ({"too big": (2, 0), "unreachable": (1, 4)} if v6 else
                          {"too big": (3, 4), "unreachable": (3, 3), "time exceeded": (11, 0)})  # fmt: skip
        for who in ("fd77::67", STRANGER6) if v6 else ("10.77.0.67", STRANGER4):
            for name, (kind, code) in kinds.items():
                for what in self.quotes(own, peer):
                    self.port = next(self.numbers)
                    forged = self.quoting(who, self.quotes(own, peer)[what], own, kind, code)
                    yield f"{name} by {who}: {what}", forged

    def ends(self):
        return (self.attacker.ip4, self.peer.ip4), (self.attacker.ip6, self.peer.ip6)

    def begins_nothing(self, errors, own, peer, before=None):
        for name, forged in errors:
            with self.subTest(name):
                self.next_attempt()
                self.refused(send_after, lambda data=forged: self.wire.inject(self.mac, data), (own, HEARD),
                             (peer, self.port), self.mark, before)
                self.recorded_outbound("udp", ip=peer)
                self.nothing_arrived()

    def test_begins_no_conversation(self):
        for own, peer in self.ends():
            self.begins_nothing(self.errors(own, peer), own, peer)

    def test_nor_where_a_socket_hears_for_a_tunnel(self):
        for own, peer in self.ends():
            too_big = {"too big": (2, 0) if packets.is_v6(own) else (3, 4)}
            self.begins_nothing(self.errors(own, peer, too_big), own, peer, take_together)

    def test_nor_of_a_socket_that_is_connected_elsewhere(self):
        for own, peer in self.ends():
            self.begins_nothing(itertools.islice(self.errors(own, peer), 2), own, peer, connect_to_itself)

    def test_nor_by_way_of_the_other_family(self):
        """IPv6 quotes IPv4's addresses as mapped ones, which are the same to the door."""
        own, peer = f"::ffff:{self.attacker.ip4}", f"::ffff:{self.peer.ip4}"
        quoted = packets.ipv6(own, peer, 17, packets.udp(own, peer, HEARD, self.port, b"12345678"))
        forged = self.quoting("fd77::67", quoted, self.attacker.ip6, 2)
        self.begins_nothing([("mapped", forged)], self.attacker.ip4, self.peer.ip4)

    def learns(self, port, mtu):
        """What a true error about a datagram from the port says is learnt."""
        own, peer = self.attacker.ip4, self.peer.ip4
        quoted = packets.ipv4(own, peer, 17, packets.udp(own, peer, port, self.port, b"x" * 16))
        self.wire.inject(self.mac, self.quoting("10.77.0.67", quoted, own, 3, 4, mtu))
        deadline = time.monotonic() + 2
        while self.path_mtu(peer) != mtu:
            self.assertLess(time.monotonic(), deadline, "the path's MTU was not learnt")
            time.sleep(0.02)

    def path_mtu(self, peer):
        with namespaces.inside(self.attacker.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
            probe.connect((peer, 7001))
            return probe.getsockopt(socket.IPPROTO_IP, IP_MTU)

    def test_a_true_one_is_learnt_from(self):
        own, peer = self.attacker.ip4, self.peer.ip4
        asks = self.hear(self.peer, socket.SOCK_DGRAM, self.port, peer)
        release, held = os.pipe()
        answering = threading.Thread(target=self.permitted,
                                     args=(answer_large, (own, HEARD), (peer, self.port), b"x" * 1400, release))
        answering.start()
        self.addCleanup(answering.join)
        self.addCleanup(os.close, held)
        deadline = time.monotonic() + 2
        while not self.wire.matching(port=self.port, source=own):
            self.assertLess(time.monotonic(), deadline, "no answer")
            asks.sendto(b"?", (own, HEARD))
            time.sleep(0.05)
        self.learns(HEARD, 1300)

    def test_one_about_a_socket_out_of_scope_is_learnt_from(self):
        """Beside the enforced cgroup: the doors do not know of its conversations."""
        beside = self.hear(self.attacker, socket.SOCK_DGRAM, 7055, self.attacker.ip4)
        beside.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        beside.sendto(b"x" * 1000, (self.peer.ip4, self.port))
        self.learns(7055, 1200)


class ErrorsWithoutAnInboundPolicy(Errors):
    """Where nothing is said of what comes in, all the more."""

    POLICY = """
version: 1
segment: attacker
selector: {role: attacker}
mode: enforce
inbound: allow
outbound: deny
allow:
  - {id: work, to: {cidr: [PEER4/32, "PEER6/128"]}, service: [udp/6999]}
"""
