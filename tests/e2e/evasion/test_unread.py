# SPDX-License-Identifier: Apache-2.0
"""What a process answers that no peer has sent: datagrams in a peer's name from the host itself."""

import socket
import struct
import threading
import time

from .case import EvasionTest, family_of

HEARD = 7001
IPV6_FREEBIND, IPV6_PKTINFO = 78, 50  # linux/in6.h


def from_peers_address(own, peer, port):
    opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    opened.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
    opened.bind((peer, port))
    return opened


def by_sendto(own, peer, port):
    with from_peers_address(own, peer, port) as opened:
        opened.sendto(b"x", (own, HEARD))


def by_sendto_loopback(own, peer, port):
    with from_peers_address(own, peer, port) as opened:
        opened.sendto(b"x", ("::1", HEARD))


def by_sendto_unspecified(own, peer, port):
    with from_peers_address(own, peer, port) as opened:
        opened.sendto(b"x", ("::", HEARD))


def by_connect_unspecified(own, peer, port):
    with from_peers_address(own, peer, port) as opened:
        opened.connect(("::", HEARD))
        opened.send(b"x")


def without_the_right_any_more(own, peer, port):
    with from_peers_address(own, peer, port) as opened:
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 0)
        opened.sendto(b"x", (own, HEARD))


def by_connect(own, peer, port):
    with from_peers_address(own, peer, port) as opened:
        opened.connect((own, HEARD))
        opened.send(b"x")


def said_with_it(peer):
    return [(socket.IPPROTO_IPV6, IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, peer) + struct.pack("=I", 0))]


def by_ancillary_data(own, peer, port):
    with from_peers_address(own, "::", port) as opened:
        opened.sendto(b"x", (own, HEARD))  # under way, as itself
        opened.sendmsg([b"x"], said_with_it(peer), 0, (own, HEARD))


def by_ancillary_data_when_connected(own, peer, port):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        opened.bind(("::", port))
        opened.connect((own, HEARD))
        opened.setsockopt(socket.IPPROTO_IPV6, IPV6_FREEBIND, 1)
        opened.sendmsg([b"x"], said_with_it(peer))


def answer_what_it_made_up(make, own, peer, port, data):
    with socket.socket(family_of(own), socket.SOCK_DGRAM) as opened:
        opened.bind(("::", HEARD))
        opened.settimeout(2)
        make(own, peer, port)
        while opened.recvfrom(100)[1][0] != peer:
            pass
        opened.sendto(data, (peer, port))


def read_and_answer(local, remote, data):
    with socket.socket(family_of(local[0]), socket.SOCK_DGRAM) as opened:
        opened.bind(local)
        opened.settimeout(2)
        opened.recvfrom(100)
        opened.sendto(data, remote)


class Unread(EvasionTest):
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

    def test_in_a_peers_name_from_the_host_itself(self):
        own, peer = self.attacker.ip6, self.peer.ip6
        for make in (by_sendto, by_sendto_loopback, by_sendto_unspecified, without_the_right_any_more, by_connect,
                     by_connect_unspecified, by_ancillary_data, by_ancillary_data_when_connected):
            with self.subTest(make.__name__):
                self.next_attempt()
                self.port = next(self.numbers)
                self.refused(answer_what_it_made_up, make, own, peer, self.port, self.mark)
                self.recorded(direction="outbound", reason="malformed")
                self.nothing_arrived()

    def test_what_was_read_is_answered(self):
        for own, peer in ((self.attacker.ip4, self.peer.ip4), (self.attacker.ip6, self.peer.ip6)):
            with self.subTest(peer=peer):
                self.port = next(self.numbers)
                asks = self.hear(self.peer, socket.SOCK_DGRAM, self.port, peer)
                process = threading.Thread(target=self.permitted,
                                           args=(read_and_answer, (own, HEARD), (peer, self.port), self.mark))
                process.start()
                self.addCleanup(process.join)
                for _ in range(20):
                    asks.sendto(b"?", (own, HEARD))
                    time.sleep(0.05)
                self.assertEqual(asks.recv(100), self.mark)
