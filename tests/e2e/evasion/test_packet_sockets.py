# SPDX-License-Identifier: Apache-2.0
"""Whole frames from the host with the agent: AF_PACKET in all its forms, AF_XDP, and ways past the interface's hook."""

import ctypes
import mmap
import socket
import struct

from . import calls, packets
from .case import ALLOWED, EvasionTest
from .wire import Wire

ETH_P_ALL, ETH_P_LOOP, SOL_PACKET, SOL_XDP, AF_XDP = 3, 0x60, 263, 283, 44
PACKET_VERSION, PACKET_TX_RING, PACKET_VNET_HDR, PACKET_QDISC_BYPASS, PACKET_LOSS = 10, 13, 15, 20, 14
TPACKET_V2, TP_STATUS_SEND_REQUEST = 1, 1
XDP_TX_RING = 3


class PacketSockets(EvasionTest):
    @classmethod
    def arrange(cls):
        super().arrange()
        with Wire(cls.attacker) as own:
            cls.mac = own.mac

    def udp(self, port, family=4):
        source, target = ((self.attacker.ip4, self.peer.ip4) if family == 4 else (self.attacker.ip6, self.peer.ip6))
        return packets.ip(source, target, 17, packets.udp(source, target, 4444, port, self.mark))

    def frame(self, port, family=4, tags=()):
        kind = packets.ETH_IPV4 if family == 4 else packets.ETH_IPV6
        return packets.ethernet(self.wire.mac, self.mac, kind, self.udp(port, family), tags)

    def check(self, attack, *arguments, allowed=True, port=None, **conditions):
        """attack(port, ...): the allowed port's frame arrives, the other's does not and is recorded."""
        if allowed:
            self.permitted(attack, ALLOWED, *arguments)
            self.wire.wait(content=self.mark)
        self.next_attempt()
        self.assertIn(self.attempt(attack, self.port, *arguments), ("", "ENOBUFS", "EPERM"))
        record = self.recorded(direction="outbound", **(conditions or {"protocol": "udp", "dst__port": self.port}))
        self.names_the_process(record)
        self.nothing_arrived()
        self.next_attempt()
        self.port += 100

    def test_whole_frames(self):
        def attack(port, family):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as opened:
                opened.bind(("eth0", 0))
                opened.send(self.frame(port, family))
        for family in (4, 6):
            self.check(attack, family)

    def test_frames_whose_socket_names_another_protocol(self):
        """What sendto(2) calls the frame is one thing, what the frame says to the peer is another."""
        def attack(port, kind):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.sendto(self.frame(port), ("eth0", kind))
        for kind in (0, packets.ETH_ARP, packets.ETH_IPV6, ETH_P_LOOP, 0x88CC, 0x888E, packets.ETH_VLAN):
            with self.subTest(kind=kind):
                self.check(attack, kind)

    def test_without_link_header(self):
        def attack(port, family):
            with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as opened:
                kind = packets.ETH_IPV4 if family == 4 else packets.ETH_IPV6
                opened.sendto(self.udp(port, family), ("eth0", kind, 0, 0, packets.mac(self.wire.mac)))
        for family in (4, 6):
            self.check(attack, family)

    def test_vlan_tags(self):
        """Priority tags (VLAN 0), which every peer takes off, up to more of them than anybody needs."""
        def attack(port, tags):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.sendto(self.frame(port, tags=tags), ("eth0", tags[0][0]))
        for tags in ([(packets.ETH_VLAN, 0)], [(packets.ETH_QINQ, 0), (packets.ETH_VLAN, 0)],
                     [(packets.ETH_VLAN, 0), (packets.ETH_VLAN, 0)]):
            with self.subTest(tags=len(tags)):
                self.check(attack, tags)
        with self.subTest(tags=4):
            self.check(attack, [(packets.ETH_VLAN, 0)] * 4, allowed=False, reason="malformed")

    def test_transmit_ring(self):
        """Frames in memory that is shared with the kernel, of which only the link header is copied."""
        def attack(port):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
                opened.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("=IIII", 4096, 1, 2048, 2))
                opened.bind(("eth0", packets.ETH_IPV4))
                ring, frame = mmap.mmap(opened.fileno(), 4096), self.frame(port)
                ring[32:32 + len(frame)] = frame  # TPACKET2_HDRLEN less sizeof(struct sockaddr_ll)
                ring[0:8] = struct.pack("=II", TP_STATUS_SEND_REQUEST, len(frame))
                opened.send(b"")
        self.check(attack)

    def test_virtio_header(self):
        """A frame with a header that speaks of segmentation offload."""
        def attack(port):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
                opened.sendto(bytes(10) + self.frame(port), ("eth0", packets.ETH_IPV4))
        self.check(attack)

    def test_a_protocol_of_its_own(self):
        """A tunnel by frames of a type that is nobody's."""
        def attack(_):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.sendto(packets.ethernet(self.wire.mac, self.mac, 0x88B5, self.mark), ("eth0", 0x88B5))
        self.check(attack, allowed=False, reason="malformed")

    def test_bypass_of_the_queue(self):
        """Which would go past the interface's egress hook."""
        for value in (1, 256, -1 << 31):  # the kernel takes what is not 0 for yes
            def attack(_):
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                    opened.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, value)
                    opened.sendto(self.frame(self.port), ("eth0", packets.ETH_IPV4))
            with self.subTest(value=value):
                self.assertEqual(self.attempt(attack, 0), "EPERM")
                self.check(attack, allowed=False, reason="malformed")

    def test_xdp_socket(self):
        """AF_XDP's transmit ring goes past the interface's egress hook too."""
        def attack(_):
            with socket.socket(AF_XDP, socket.SOCK_RAW) as opened:
                opened.setsockopt(SOL_XDP, XDP_TX_RING, struct.pack("=I", 64))
        try:
            socket.socket(AF_XDP, socket.SOCK_RAW).close()
        except OSError as error:
            self.skipTest(f"no AF_XDP here: {error}")
        self.assertEqual(self.attempt(attack, 0), "EPERM")
        self.check(attack, allowed=False, reason="malformed")
