# SPDX-License-Identifier: Apache-2.0
"""Packets that are made by hand on the host with the agent and pass no door: raw and packet sockets."""

import os
import socket
import struct

from harness import namespaces

from . import packets
from .case import ALLOWED, EvasionTest

IPPROTO_UDPLITE = 136
IP_RETOPTS, IPV6_RTHDR = 7, 57
OTHER = "10.77.0.66"
UNKNOWN = 255  # of an option of a socket, which is about no packet yet
TUNNELS = {4: "ipip", 41: "ipv6 in ipv4", 47: "gre", 50: "esp", 132: "sctp", 33: "dccp", 136: "udp-lite", 89: "ospf",
           115: "l2tp", 253: "for experiments"}


def send_ip(packet):
    """One whole IP packet through a raw socket."""
    if packet[0] >> 4 == 6:
        with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
            opened.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
            opened.sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))


class Raw(EvasionTest):
    @classmethod
    def arrange(cls):
        super().arrange()
        cls.source = {4: cls.attacker.ip4, 6: cls.attacker.ip6}
        cls.target = {4: cls.peer.ip4, 6: cls.peer.ip6}
        cls.attacker.run("ping", "-c1", "-W1", cls.peer.ip4, daemon=True)  # the neighbours know each other
        cls.attacker.run("ping", "-c1", "-W1", cls.peer.ip6, daemon=True)

    def udp(self, port, family=4, source=None, target=None):
        source, target = source or self.source[family], target or self.target[family]
        return packets.ip(source, target, 17, packets.udp(source, target, 4444, port, self.mark))

    def tcp(self, port, family=4, flags=packets.SYN):
        return packets.ip(self.source[family], self.target[family], 6, packets.tcp(
            self.source[family], self.target[family], 4444, port, flags, self.mark))

    def goes(self, function, *arguments):
        """The way itself is open: what is allowed takes it."""
        self.next_attempt()
        self.permitted(function, *arguments)
        self.wire.wait(content=self.mark)
        self.next_attempt()

    def lost(self, function, *arguments, protocol="udp", process=True, **conditions):
        """Not on the wire, and recorded. The sender of a raw packet is not always told."""
        self.next_attempt()
        self.assertIn(self.attempt(function, *arguments), ("", "EPERM", "ENOBUFS"))
        record = self.recorded(direction="outbound", protocol=protocol, **conditions)
        if process:
            self.names_the_process(record)
        self.nothing_arrived()
        return record

    def test_ip_header_included(self):
        for family in (4, 6):
            for make, protocol in ((self.udp, "udp"), (self.tcp, "tcp")):
                with self.subTest(family=family, protocol=protocol):
                    self.goes(send_ip, make(ALLOWED, family))
                    self.lost(send_ip, make(self.port, family), protocol=protocol, dst__port=self.port,
                              dst__ip=self.target[family])

    def test_raw_socket_with_the_kernels_header(self):
        def attack(family, protocol, segment):
            with socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_RAW, protocol) as opened:
                opened.sendto(segment, (self.target[family], 0))
        for family in (4, 6):
            ends = self.source[family], self.target[family]
            with self.subTest(family=family):
                self.goes(attack, family, 17, packets.udp(*ends, 4444, ALLOWED, self.mark))
                self.lost(attack, family, 17, packets.udp(*ends, 4444, self.port, self.mark), dst__port=self.port)
                self.lost(attack, family, 6, packets.tcp(*ends, 4444, self.port, payload=self.mark), protocol="tcp",
                          dst__port=self.port)

    def test_no_flags_of_a_syn(self):
        """A segment that pretends to belong to a connection is as much an attempt as a SYN."""
        for flags in (packets.ACK, packets.PSH | packets.ACK, packets.FIN, 0, packets.RST):
            with self.subTest(flags=flags):
                self.lost(send_ip, self.tcp(self.port, flags=flags), protocol="tcp", dst__port=self.port)
            self.port += 100

    def test_other_protocols(self):
        for number, name in TUNNELS.items():
            with self.subTest(protocol=name):
                inner = self.udp(ALLOWED)  # what would be allowed by itself
                self.lost(send_ip, packets.ip(self.source[4], self.target[4], number, inner),
                          protocol=number, dst__ip=self.target[4])

    def test_udp_lite_socket(self):
        def attack(connected):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, IPPROTO_UDPLITE) as opened:
                if connected:
                    opened.connect((self.peer.ip4, ALLOWED))
                    opened.send(self.mark)
                else:
                    opened.sendto(self.mark, (self.peer.ip4, ALLOWED))
        try:
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM, IPPROTO_UDPLITE).close()
        except OSError as error:
            self.skipTest(f"no UDP-Lite here: {error}")
        for connected in (False, True):
            self.lost(attack, connected, protocol=IPPROTO_UDPLITE, dst__ip=self.peer.ip4)

    def test_sctp_and_dccp_sockets(self):
        """Their packets are refused however they are made (test_other_protocols); the sockets, where there are any."""
        made = 0
        for kind, number in ((socket.SOCK_STREAM, 132), (socket.SOCK_SEQPACKET, 132), (6, 33)):
            def attack():
                with socket.socket(socket.AF_INET, kind, number) as opened:
                    opened.settimeout(0.3)
                    try:
                        opened.connect((self.peer.ip4, ALLOWED))
                    except TimeoutError:
                        pass
            try:
                socket.socket(socket.AF_INET, kind, number).close()
            except OSError:
                continue
            made += 1
            self.lost(attack, protocol=number, dst__ip=self.peer.ip4, process=False)
        if not made:
            self.skipTest("the kernel has neither SCTP nor DCCP")

    def test_source_spoofing(self):
        """With a source that is not this host's; also when the port is allowed."""
        for family, source in ((4, OTHER), (6, "fd77::66"), (4, self.peer.ip4)):
            with self.subTest(source=source):
                self.lost(send_ip, self.udp(ALLOWED, family, source), reason="malformed", dst__ip=self.target[family])

    def test_icmp_tunnel(self):
        """Echo requests, answers that nobody asked for, and errors about nothing, each with a payload."""
        for kind, code in ((8, 0), (0, 0), (3, 3), (3, 4), (11, 0), (5, 1), (13, 0), (17, 0)):
            with self.subTest(type=kind):
                quoted = packets.ipv4(self.target[4], self.source[4], 17, packets.udp(
                    self.target[4], self.source[4], 5, 6, self.mark))
                body = quoted if kind in (3, 11, 5) else self.mark
                record = self.lost(send_ip, packets.ipv4(self.source[4], self.target[4], 1,
                                                         packets.icmp(kind, body, code)), protocol="icmp",
                                   dst__ip=self.target[4], icmp__type=kind)
                self.assertEqual(record["icmp"].get("code", 0), code)

    def test_icmpv6_tunnel(self):
        for kind in (128, 129, 1, 2, 3, 4, 139, 200):
            with self.subTest(type=kind):
                ends = self.source[6], self.target[6]
                self.lost(send_ip, packets.ipv6(*ends, 58, packets.icmpv6(*ends, kind, self.mark)), protocol="icmpv6",
                          dst__ip=self.target[6], icmp__type=kind)

    def test_ping_socket(self):
        """ICMP without privileges: net.ipv4.ping_group_range."""
        self.attacker.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647", daemon=True).check()

        def attack(connected):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP) as opened:
                message = packets.icmp(8, self.mark)
                if connected:
                    opened.connect((self.peer.ip4, 0))
                    opened.send(message)
                else:
                    opened.sendto(message, (self.peer.ip4, 0))
        for connected in (False, True):
            self.next_attempt()
            self.assertIn(self.attempt(attack, connected, user="nobody"), ("", "EPERM", "ENOBUFS"))
            record = self.recorded(direction="outbound", protocol="icmp", dst__ip=self.peer.ip4, icmp__type=8)
            self.assertEqual(record["process"].get("user"), "nobody", record)
            self.nothing_arrived()

    # ---- fragments and headers

    def send_fragments(self, *pieces, protocol=6):
        """Under a number that (but for one run in thousands) no datagram of the last minute had."""
        identification = int.from_bytes(os.urandom(2), "big")
        for offset, more, data in pieces:
            send_ip(packets.ipv4(self.source[4], self.target[4], protocol, data, identification=identification,
                                 flags=more, offset=offset))

    def test_fragments(self):
        """The first fragment is refused by its ports, the others since they have none that are allowed."""
        datagram = packets.udp(self.source[4], self.target[4], 4444, self.port, b"x" * 24 + self.mark)
        
        def attack():
            self.send_fragments((0, 1, datagram[:24]), (3, 0, datagram[24:]), protocol=17)
        self.lost(attack, dst__ip=self.target[4])
        self.assertEqual(self.wire.matching(source=self.source[4], protocol=17), [])

    def test_link_control_to_far_away(self):
        """Only its receiver would look at the hop limit; routers take it on (RFC 4861)."""
        far = "2001:db8::1"
        self.attacker.run("ip", "-6", "route", "replace", "2001:db8::/32", "via", self.target[6], daemon=True).check()
        self.addCleanup(self.attacker.run, "ip", "-6", "route", "del", "2001:db8::/32", daemon=True)
        for kind, hop_limit in ((136, 255), (143, 1)):
            with self.subTest(type=kind):
                packet = packets.ipv6(self.source[6], far, 58, packets.icmpv6(self.source[6], far, kind, self.mark), hop_limit)
                self.lost(send_ip, packet, protocol="icmpv6", dst__ip=far, icmp__type=kind)

    def segment(self, port):
        return packets.tcp(self.source[4], self.target[4], 4444, port, payload=self.mark)

    def test_tiny_fragments(self):
        """Flags, or ports and nothing else, in the first fragment (RFC 1858)."""
        segment = self.segment(self.port)

        def attack():
            self.send_fragments((0, 1, segment[:8]), (1, 1, segment[8:16]), (2, 0, segment[16:]))
        self.lost(attack, protocol="tcp", dst__ip=self.target[4])
        self.assertEqual(self.wire.matching(source=self.source[4], protocol=6), [])

    def test_tiny_fragments_in_the_wake_of_allowed_ones(self):
        """An allowed fragmented exchange with the same peer lets no first fragment of another pass."""
        allowed, segment = self.segment(ALLOWED), self.segment(self.port)
        with self.receiver() as peer:
            def attack():
                self.send_fragments((0, 1, allowed[:24]), (3, 0, allowed[24:]))
                self.send_fragments((0, 1, segment[:8]), (1, 1, segment[8:16]), (2, 0, segment[16:]))
            self.next_attempt()
            self.attempt(attack)
            self.recorded(direction="outbound", protocol="tcp", dst__ip=self.target[4])
            self.assertEqual(set(self.ports(peer)), {ALLOWED})

    def receiver(self):
        """TCP as the peer's network layer puts it together from fragments."""
        with namespaces.inside(self.peer.netns):
            opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
        opened.setblocking(False)
        return opened

    @staticmethod
    def ports(receiver):
        found = []
        try:
            while True:
                data = receiver.recv(4096)
                found.append(struct.unpack("!H", data[22:24])[0])
        except BlockingIOError:
            return found

    def test_overlapping_fragments(self):
        """The first says an allowed port; one over it another (RFC 3128)."""
        allowed, segment = self.segment(ALLOWED), self.segment(self.port)
        with self.receiver() as peer:
            def attack():
                self.send_fragments((0, 1, allowed[:24]), (0, 1, segment[:24]), (3, 0, segment[24:]))
                self.send_fragments((0, 1, segment[:24]), (0, 1, allowed[:24]), (3, 0, segment[24:]))
            self.next_attempt()
            self.attempt(attack)
            self.recorded(direction="outbound", protocol="tcp", dst__ip=self.target[4], dst__port=self.port)
            self.assertEqual([port for port in self.ports(peer) if port != ALLOWED], [])

    def test_extension_headers(self):
        """Chains before the ports, one that is too long to be followed, and one that ends before the ports."""
        ends = self.source[6], self.target[6]
        for chain in ([0], [60], [0, 60, 60], [44], [60] * 12, [0, 60, 44, 60]):
            with self.subTest(chain=chain):
                data, following = packets.udp(*ends, 4444, self.port, self.mark), 17
                for kind in reversed(chain):
                    data = (packets.fragment_header(following, 0, 0) if kind == 44 else
                            packets.extension(following)) + data
                    following = kind
                self.lost(send_ip, packets.ipv6(*ends, following, data),
                          protocol="udp" if len(chain) < 8 else None, dst__ip=self.target[6])

    def test_source_route(self):
        """Options that lead a packet by way of somebody else: as an option of the socket, with one datagram, by hand."""
        for address in (self.peer.ip4, OTHER):
            route = struct.pack("!BBB4sB", 131, 7, 4, socket.inet_aton(address), 0)

            def by_option(connected):
                with socket.socket(socket.AF_INET, socket.SOCK_STREAM if connected else socket.SOCK_DGRAM) as opened:
                    opened.settimeout(0.3)
                    opened.setsockopt(socket.SOL_IP, socket.IP_OPTIONS, route)
                    opened.connect((self.peer.ip4, ALLOWED))
                    opened.send(self.mark)

            def with_datagram():
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                    opened.sendmsg([self.mark], [(socket.SOL_IP, IP_RETOPTS, route)], 0, (self.peer.ip4, ALLOWED))

            for connected in (True, False):
                self.lost(by_option, connected, protocol=UNKNOWN, reason="malformed")
            if address == self.peer.ip4:  # to the other the packet would not leave, since nobody has that address
                self.lost(with_datagram, protocol="udp", reason="malformed", process=False)
        by_hand = packets.ipv4(self.source[4], self.target[4], 17, self.udp(ALLOWED)[20:], options=route)
        self.lost(send_ip, by_hand, reason="malformed")

    def test_routing_header(self):
        """IPv6: the sticky option, the older one that carries it, with one datagram, and by hand."""
        segments = struct.pack("!BBBBBBH16s", 0, 2, 4, 0, 0, 0, 0, socket.inet_pton(socket.AF_INET6, self.peer.ip6))
        by_hand = struct.pack("!BBBBBBH16s", 17, 2, 4, 1, 0, 0, 0, socket.inet_pton(socket.AF_INET6, self.peer.ip6))

        def sticky():
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
                opened.setsockopt(socket.IPPROTO_IPV6, IPV6_RTHDR, segments)
                opened.sendto(self.mark, (self.peer.ip6, ALLOWED))

        def with_datagram():
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
                opened.sendmsg([self.mark], [(socket.IPPROTO_IPV6, IPV6_RTHDR, segments)], 0, (self.peer.ip6, ALLOWED))
        self.lost(sticky, protocol=UNKNOWN, reason="malformed")
        # One that the kernel takes with a datagram is of mobile IPv6 only.
        self.assertIn(self.attempt(with_datagram), ("EINVAL", "EPERM", ""))
        self.nothing_arrived()
        data = packets.udp(self.source[6], self.target[6], 4444, ALLOWED, self.mark)
        self.lost(send_ip, packets.ipv6(self.source[6], self.target[6], 43, by_hand + data), reason="malformed")
