# SPDX-License-Identifier: Apache-2.0
"""Questions to sock_diag(7), which anybody may ask: they look sockets up as packets do, with ends that are made up."""

import socket
import struct

from .case import EvasionTest, family_of

HEARD = 7001
SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1


def ask(protocol, one, other):
    """For the socket between the two ends. For UDP the kernel takes the first for the remote one (udp_dump_one)."""
    family = family_of(one[0])
    raw = [socket.inet_pton(family, address).ljust(16, b"\0") for address, _ in (one, other)]
    request = struct.pack("=BBBxI", family, protocol, 0, 0xffffffff)
    request += struct.pack("!HH", one[1], other[1]) + raw[0] + raw[1] + struct.pack("=III", 0, 0xffffffff, 0xffffffff)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, SOCK_DIAG) as netlink:
        netlink.settimeout(2)
        netlink.send(struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + request)
        return struct.unpack_from("=IH", netlink.recv(4096))[1]


def send_as_if_asked(local, remote, data):
    with socket.socket(family_of(local[0]), socket.SOCK_DGRAM) as opened:
        opened.bind(local)
        for _ in range(2):
            ask(socket.IPPROTO_UDP, remote, local)
            ask(socket.IPPROTO_UDP, local, remote)
        opened.sendto(data, remote)


class Questions(EvasionTest):
    POLICY = """
version: 1
segment: attacker
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: guests, from: {cidr: [PEER4/32, "PEER6/128"]}, service: [udp/7001]}
"""

    def test_is_no_datagram_that_could_be_answered(self):
        for own, peer in ((self.attacker.ip4, self.peer.ip4), (self.attacker.ip6, self.peer.ip6)):
            with self.subTest(peer=peer):
                self.next_attempt()
                self.refused(send_as_if_asked, (own, HEARD), (peer, self.port), self.mark)
                self.recorded_outbound("udp", ip=peer)
                self.nothing_arrived()

    def test_is_no_attempt_that_is_recorded(self):
        self.next_attempt()
        stranger = "10.77.0.66"
        self.hear(self.attacker, socket.SOCK_STREAM, self.port)
        self.hear(self.attacker, socket.SOCK_DGRAM, self.port)
        own, other = (self.attacker.ip4, self.port), (stranger, 4444)
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP):
            self.attempt(ask, protocol, own, other)
            self.attempt(ask, protocol, other, own)
        # A real one, later, is: so what was there before has been written.
        self.refused(send_as_if_asked, (self.attacker.ip4, HEARD), (self.peer.ip4, self.port), self.mark)
        self.recorded_outbound("udp")
        forged = [record for record in self.agent.violations() if stranger in str(record)]
        self.assertEqual(forged, [])

    def test_a_datagram_is_answered(self):
        """What is heard from the network is a conversation as before."""
        heard = self.hear(self.attacker, socket.SOCK_DGRAM, HEARD, self.attacker.ip4)
        asks = self.hear(self.peer, socket.SOCK_DGRAM, self.port, self.peer.ip4)
        asks.sendto(self.mark, (self.attacker.ip4, HEARD))
        self.assertEqual(heard.recv(100), self.mark)
        heard.sendto(b"yes", (self.peer.ip4, self.port))
        self.assertEqual(asks.recv(100), b"yes")
