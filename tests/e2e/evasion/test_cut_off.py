# SPDX-License-Identifier: Apache-2.0
"""Ways out of a host in quarantine, for who is root on it."""

import socket
import struct

from harness import namespaces
from harness.lab import wait_until

from . import packets
from .case import ALLOWED, EvasionTest
from .test_raw import send_ip
from .wire import Wire

STRANGER = "10.77.0.66"


class CutOff(EvasionTest):
    AGENT = {"management": ["10.77.0.50/32"]}  # the peer: its ssh to this host is a failsafe

    @classmethod
    def arrange(cls):
        super().arrange()
        with Wire(cls.attacker) as own:
            cls.mac = own.mac
        cls.attacker.call(cls.conversation)
        cls.agent.local("workload", "quarantine", "--reason", "test").check()
        wait_until(lambda: "QUARANTINE" in cls.agent.local("status").stdout, 5, "quarantine")

    @classmethod
    def conversation(cls):
        """One that was allowed before."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.bind(("", 4545))
            opened.connect((cls.peer.ip4, ALLOWED))
            opened.send(b"before")

    def lost(self, attack, **conditions):
        self.next_attempt()
        self.attempt(attack)
        self.recorded(**{"reason": "quarantine", **conditions})
        self.nothing_arrived()

    def raw_tcp(self, flags, port=None, source_port=4444):
        ends = (self.attacker.ip4, self.peer.ip4)
        return packets.ipv4(*ends, 6, packets.tcp(*ends, source_port, port or self.port, flags, self.mark))

    def test_a_conversation_that_was_allowed_before(self):
        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.bind(("", 4545))
                opened.sendto(self.mark, (self.peer.ip4, ALLOWED))
        self.lost(attack, protocol="udp", dst__port=ALLOWED)

    def test_data_in_a_reset_made_by_hand(self):
        """Resets of sessions that are cut go out; what looks like one does not."""
        self.lost(lambda: send_ip(self.raw_tcp(packets.RST)), protocol="tcp", dst__port=self.port)

    def test_frames_of_a_protocol_of_its_own(self):
        def attack():
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.sendto(packets.ethernet(self.wire.mac, self.mac, 0x88B5, self.mark), ("eth0", 0x88B5))
        self.lost(attack, direction="outbound")

    def test_an_answer_of_the_failsafe_that_takes_another_way(self):
        """From the ssh port to management, by way of a host that is not."""
        def attack():
            route = struct.pack("!BBB4sB", 131, 7, 4, socket.inet_aton(self.peer.ip4), 0)
            ends = (self.attacker.ip4, self.peer.ip4)
            segment = packets.tcp(*ends, 22, self.port, packets.ACK, self.mark)
            frame = packets.ipv4(self.attacker.ip4, self.peer.ip4, 6, segment, options=route)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.sendto(packets.ethernet(self.wire.mac, self.mac, packets.ETH_IPV4, frame), ("eth0", 0x800))
        self.lost(attack, direction="outbound", protocol="tcp")

    def test_echo_requests(self):
        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as opened:
                opened.sendto(packets.icmp(8, self.mark), (self.peer.ip4, 0))
        self.lost(attack, protocol="icmp")

    def test_multicast_and_to_strangers(self):
        def attack(address):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.sendto(self.mark, (address, 5353))
        for address in ("224.0.0.251", STRANGER):
            with self.subTest(address=address):
                self.lost(lambda: attack(address), protocol="udp", dst__ip=address)

    def test_packets_that_look_like_answers(self):
        """Nobody asked. Failsafes let in ssh from management, and what DHCP servers send to port 68."""
        own, peer, ends6 = self.attacker.ip4, self.peer.ip4, (self.attacker.ip6, self.peer.ip6)
        attacks = {
            "a SYN from the ssh port": packets.ipv4(own, peer, 6, packets.tcp(own, peer, 22, self.port, packets.SYN, self.mark)),
            "data from the ssh port": self.raw_tcp(packets.ACK, source_port=22),
            "a datagram from DHCP's port": packets.ipv4(own, peer, 17, packets.udp(own, peer, 68, self.port, self.mark)),
            "fragmentation needed": packets.ipv4(own, peer, 1, packets.icmp(3, self.mark * 2, 4)),
            "packet too big": packets.ipv6(*ends6, 58, packets.icmpv6(*ends6, 2, self.mark)),
            "a neighbour's advertisement": packets.ipv6(*ends6, 58, packets.icmpv6(*ends6, 136, self.mark), 255),
        }
        for name, packet in attacks.items():
            with self.subTest(name):
                self.lost(lambda: send_ip(packet), direction="outbound")

    def test_a_failsafe_from_a_foreign_address(self):
        ends = ("203.0.113.9", self.peer.ip4)
        packet = packets.ipv4(*ends, 17, packets.udp(*ends, 68, 67, self.mark))
        self.lost(lambda: send_ip(packet), direction="outbound", reason="malformed")

    def test_the_failsafe_goes_on(self):
        served = self.hear(self.attacker, socket.SOCK_STREAM, 22)
        with namespaces.inside(self.peer.netns):
            with socket.create_connection((self.attacker.ip4, 22), 2) as ssh:
                accepted, _ = served.accept()
                with accepted:
                    accepted.sendall(self.mark)
                    self.assertEqual(ssh.recv(64), self.mark)
