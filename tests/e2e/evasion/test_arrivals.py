# SPDX-License-Identifier: Apache-2.0
"""TCP and UDP from the network, that want to be heard where the inbound door refuses."""

import itertools
import json
import os
import socket
import struct
import time

from harness import namespaces
from harness.lab import PYTHON, wait_until

from . import packets
from .case import EvasionTest, last_attempt
from .packets import ACK, FIN, PSH, RST, SYN, URG
from .wire import Wire

OPEN, SHUT, NOBODYS = 7000, 7100, 7200  # allowed; refused, with a server; refused, without one
SCANS = {"ack": ACK, "fin": FIN, "xmas": FIN | PSH | URG, "null": 0, "maimon": FIN | ACK, "syn": SYN,
         "syn_fin": SYN | FIN, "syn_ack": SYN | ACK, "urg": URG}


class Arrivals(EvasionTest):
    """The host with the agent is the target here; whoever attacks is its peer."""

    POLICY = """
version: 1
segment: target
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: guests, from: {cidr: [PEER4/32, "PEER6/128"]}, service: [tcp/7000-7001, udp/7000-7001]}
  - {id: out, to: {cidr: [PEER4/32, "PEER6/128"]}, service: [udp/7000]}
"""

    @classmethod
    def arrange(cls):
        super().arrange()
        cls.target = cls.attacker
        cls.sources = itertools.count(20001)
        for port in (OPEN, SHUT):
            for kind in ("tcp", "udp"):
                cls.target.serve(kind, port)
        with Wire(cls.target) as at_target:
            cls.target_mac = at_target.mac

    def next_attempt(self):
        super().next_attempt()
        self.source = next(self.sources)  # of no other attempt

    def inject(self, data, **options):
        self.wire.inject(self.target_mac, data, **options)

    def send_tcp(self, port, flags=SYN, address=4, **fields):
        source, target = self.ends(address)
        self.inject(packets.ip(source, target, 6, packets.tcp(source, target, self.source, port, flags, **fields)))

    def ends(self, address):
        return (self.peer.ip6, self.target.ip6) if address == 6 else (self.peer.ip4, self.target.ip4)

    def answers(self, seconds=0.15):
        """TCP and UDP answers to this test's port, and ICMP errors about it."""
        time.sleep(seconds)
        return [packet for packet in self.wire.matching(port=self.source) if packet.protocol in (6, 17)]

    def refused_arrival(self, protocol="tcp", source=None, port=SHUT, **conditions):
        source = source or self.peer.ip4
        return self.recorded(direction="inbound", protocol=protocol, src__ip=source, dst__port=port, **conditions)

    def test_scans(self):
        """Whatever the flags, a refused port answers like one that nobody listens on, and the attempt is recorded."""
        for name, flags in SCANS.items():
            for address in (4, 6):
                with self.subTest(scan=name, address=address):
                    self.next_attempt()
                    self.send_tcp(NOBODYS, flags, address)
                    closed = self.answers(0.03)
                    self.wire.clear()
                    self.send_tcp(SHUT, flags, address)
                    refused = self.answers(0.03)
                    self.assertEqual([answer.flags for answer in refused], [answer.flags for answer in closed])
                    self.assertTrue(all(answer.flags & RST for answer in refused), refused)
                    self.refused_arrival(source=self.ends(address)[0])
                    self.wire.clear()
        self.send_tcp(OPEN)
        self.assertEqual(self.answers()[0].flags, SYN | ACK)

    def test_source_port_of_a_service(self):
        """Old packet filters let everything in that comes from the port of a name server."""
        for self.source in (20, 53, 67, 123, 547):
            self.inject(packets.ipv4(*self.ends(4), 17, packets.udp(*self.ends(4), self.source, SHUT, self.mark)))
            self.send_tcp(SHUT)
            for protocol in ("udp", "tcp"):
                self.refused_arrival(protocol)
            self.assertEqual(self.wire.matching(content=self.mark, protocol=17), [], "the server heard and echoed it")
        self.source = 53
        self.inject(packets.ipv4(*self.ends(4), 17, packets.udp(*self.ends(4), 53, OPEN, self.mark)))
        self.wire.wait(content=self.mark, protocol=17)

    def test_data_in_the_syn(self):
        """TCP Fast Open from outside, with data that a server could take from the SYN."""
        self.target.run("sysctl", "-qw", "net.ipv4.tcp_fastopen=1543", daemon=True).check()  # 0x607: cookies not needed
        self.send_tcp(SHUT, payload=self.mark)
        self.refused_arrival()
        self.assertTrue(all(answer.flags & RST for answer in self.answers()))

    def segment(self, port):
        return packets.tcp(*self.ends(4), self.source, port)

    def fragments(self, *pieces, identification=None):
        """(offset in units of eight, more, bytes) of one IPv4 packet."""
        identification = identification or self.source
        for offset, more, data in pieces:
            self.inject(packets.ipv4(*self.ends(4), 6, data, identification=identification, flags=more, offset=offset))

    def test_tiny_fragments(self):
        """The flags of the SYN, or all but its first eight bytes, come in a second fragment."""
        segment = self.segment(SHUT)
        self.fragments((0, 1, segment[:8]), (1, 0, segment[8:]))
        self.refused_arrival()
        self.next_attempt()
        segment = self.segment(SHUT)  # the last fragment first
        self.fragments((2, 0, segment[16:]), (1, 1, segment[8:16]), (0, 1, segment[:8]))
        self.refused_arrival()
        self.assertFalse([answer for answer in self.answers() if answer.flags & SYN])

    def test_overlapping_fragments(self):
        """A fragment that speaks of an allowed port, and one over it that speaks of another (RFC 1858, RFC 5722)."""
        allowed, wanted = self.segment(OPEN), self.segment(SHUT)
        for order in (1, -1):
            first = ((0, 1, allowed[:16]), (0, 1, wanted[:16]))[::order]
            self.fragments(*first, (2, 0, wanted[16:]), identification=self.source + 256 * (order + 1))
        answers = [answer for answer in self.answers() if answer.flags & SYN]
        self.assertFalse([answer for answer in answers if answer.source_port == SHUT], answers)

    def test_overlapping_fragments_of_ipv6(self):
        source, target = self.ends(6)
        allowed, wanted = (packets.tcp(source, target, self.source, port) for port in (OPEN, SHUT))
        for order in (1, -1):
            for offset, more, data in (*((0, 1, allowed[:16]), (0, 1, wanted[:16]))[::order], (2, 0, wanted[16:])):
                self.inject(packets.ipv6(source, target, 44, packets.fragment_header(6, offset, more) + data))
        self.assertFalse([answer for answer in self.answers() if answer.flags & SYN and answer.source_port == SHUT])

    def test_chains_of_extension_headers(self):
        """Options, an atomic fragment, and options again before the SYN."""
        source, target = self.ends(6)
        for chain in ([0], [60], [60, 60, 60, 60], [0, 60, 44, 60], [44]):
            with self.subTest(chain=chain):
                self.next_attempt()
                data, following = packets.tcp(source, target, self.source, SHUT), 6
                for kind in reversed(chain):
                    data = (packets.fragment_header(following, 0, 0, self.source) if kind == 44 else
                            packets.extension(following)) + data
                    following = kind
                self.inject(packets.ipv6(source, target, following, data))
                self.does_not(source, SHUT)

    def does_not(self, source, port):
        self.assertFalse([answer for answer in self.answers(0.05) if answer.flags & SYN and answer.source_port == port])
        self.refused_arrival(source=source, port=port)

    def test_a_source_on_the_wire_that_is_the_hosts_own(self):
        """Which a kernel that routes 127.0.0.0/8, takes its own addresses from outside, and does not look where sources
        are, takes for what the host says to itself."""
        names = ("all.route_localnet", "eth0.route_localnet", "all.rp_filter", "eth0.rp_filter", "all.accept_local")
        before = [self.sysctl(name) for name in names]
        for name, value in zip(names, (1, 1, 0, 0, 1)):
            self.sysctl(name, value)
        self.addCleanup(lambda: [self.sysctl(name, value) for name, value in zip(names, before)])
        wait_until(self.own_address_is_refused, what="the agent to know of the setting", interval=0.2)
        for source in ("127.0.0.1", self.target.ip4):
            for protocol, number, transport in (("udp", 17, packets.udp), ("tcp", 6, packets.tcp)):
                with self.subTest(protocol=protocol, source=source):
                    self.next_attempt()
                    self.inject(packets.ipv4(source, self.target.ip4, number,
                                             transport(source, self.target.ip4, self.source, SHUT)))
                    self.refused_arrival(protocol, source, reason="malformed")

    def own_address_is_refused(self):
        """Once a second the agent looks at what is set."""
        self.inject(packets.ipv4(self.target.ip4, self.target.ip4, 6,
                                 packets.tcp(self.target.ip4, self.target.ip4, self.source, SHUT + 1)))
        return [record for record in self.agent.violations("--from", self.target.ip4)
                if record.get("reason") == "malformed" and last_attempt(record) >= self.began]

    def sysctl(self, name, value=None):
        assignment = "" if value is None else f"={value}"
        return self.target.run("sysctl", "-n", f"net.ipv4.conf.{name}{assignment}", daemon=True).check().stdout.strip()

    def test_a_mapped_address_on_the_wire(self):
        """::ffff:a.b.c.d of an allowed IPv4 peer as the source of an IPv6 packet."""
        source = f"::ffff:{self.peer.ip4}"
        self.inject(packets.ipv6(source, self.target.ip6, 17, packets.udp(source, self.target.ip6, self.source, SHUT,
                                                                          self.mark)))
        time.sleep(0.1)
        self.assertEqual(self.wire.matching(content=self.mark), [])

    def test_an_answer_that_nobody_asked_for(self):
        """A conversation that this host began lets in answers of that peer and port only."""
        def begin():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.bind(("", SHUT + 1))
                opened.sendto(b"begin", (self.peer.ip4, OPEN))
                opened.settimeout(0.6)
                heard = []
                try:
                    while True:
                        heard.append(opened.recv(100))
                except TimeoutError:
                    return heard
        stranger = "10.77.0.66"
        pid = os.fork()
        if pid == 0:
            try:
                begun = time.monotonic() + 0.3
                while time.monotonic() < begun:
                    time.sleep(0.02)
                for source, port, text in ((stranger, OPEN, b"stranger"), (self.peer.ip4, OPEN + 99, b"other port"),
                                           (self.peer.ip4, OPEN, b"answer")):
                    self.inject(packets.ipv4(source, self.target.ip4, 17,
                                             packets.udp(source, self.target.ip4, port, SHUT + 1, text)))
            finally:
                os._exit(0)
        try:
            self.assertEqual(self.target.call(begin), [b"answer"])
        finally:
            os.waitpid(pid, 0)
        self.recorded(direction="inbound", protocol="udp", src__ip=stranger, dst__port=SHUT + 1)
        self.recorded(direction="inbound", protocol="udp", src__port=OPEN + 99, dst__port=SHUT + 1)
