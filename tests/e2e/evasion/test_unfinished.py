# SPDX-License-Identifier: Apache-2.0
"""What is sent is what was judged: checksums that are written later, where the sender says, and pages he can write to."""

import ctypes
import fcntl
import mmap
import os
import signal
import socket
import struct
import time

from . import packets
from .case import ALLOWED, EvasionTest
from .test_packet_sockets import (PACKET_TX_RING, PACKET_VERSION, PACKET_VNET_HDR, SOL_PACKET, TP_STATUS_SEND_REQUEST,
                                  TPACKET_V2)
from .wire import Wire

SIOCETHTOOL, ETHTOOL_STXCSUM = 0x8946, 0x17
NEEDS_CHECKSUM, GSO_UDP = 1, 3  # virtio_net.h: VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP
ETHERNET, IPV4, SHOWN = 14, 20, 32  # bytes; the last: of a ring's frame before its data


def folded(octets):
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets[:len(octets) // 2 * 2]))
    total += octets[-1] << 8 if len(octets) % 2 else 0
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def with_checksum(frame, at, value, spare):
    """The frame, of which the kernel's sum from `at` on is `value`, by two spare bytes."""
    frame = bytearray(frame)
    frame[spare:spare + 2] = b"\0\0"
    frame[spare:spare + 2] = struct.pack("!H", ((~value & 0xffff) - folded(bytes(frame[at:]))) % 0xffff)
    return bytes(frame)


def without_hardware_checksums(device):
    """A veth pair sums nothing up; as a card that leaves it to the kernel."""
    command = ctypes.create_string_buffer(struct.pack("II", ETHTOOL_STXCSUM, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        fcntl.ioctl(opened, SIOCETHTOOL, struct.pack("16sQ16x", device.encode(), ctypes.addressof(command)))


class Unfinished(EvasionTest):
    @classmethod
    def arrange(cls):
        super().arrange()
        with Wire(cls.attacker) as own:
            cls.mac = own.mac
        cls.attacker.call(without_hardware_checksums, "eth0")

    def datagram(self, port, spare=b""):
        """Without a checksum of its own."""
        payload = spare + self.mark
        udp = struct.pack("!HHHH", 4444, port, 8 + len(payload), 0) + payload
        ip = packets.ip(self.attacker.ip4, self.peer.ip4, 17, udp)
        return packets.ethernet(self.wire.mac, self.mac, packets.ETH_IPV4, ip)

    @staticmethod
    def send(frame, checksum_at, kind=packets.ETH_IPV4, offset=0):
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
            opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
            opened.sendto(struct.pack("=BBHHHH", NEEDS_CHECKSUM, 0, 0, 0, checksum_at, offset) + frame, ("eth0", kind))

    def is_refused(self, frame, checksum_at, kind=packets.ETH_IPV4, **conditions):
        self.next_attempt()
        self.assertIn(self.attempt(self.send, frame, checksum_at, kind), ("", "ENOBUFS"))
        self.names_the_process(self.recorded(direction="outbound", reason="malformed", **conditions))
        self.nothing_arrived()

    def test_a_checksum_in_its_place(self):
        self.permitted(self.send, self.datagram(ALLOWED), ETHERNET + IPV4, packets.ETH_IPV4, 6)
        self.wire.wait(content=self.mark)

    def test_the_port_is_a_checksum(self):
        at = ETHERNET + IPV4 + 2
        self.is_refused(with_checksum(self.datagram(ALLOWED, b"\0\0"), at, self.port, at + 6), at, protocol="udp")

    def test_the_destination_is_a_checksum(self):
        at = ETHERNET + 18
        denied = struct.unpack("!H", packets.packed("10.77.0.66")[2:])[0]
        self.is_refused(with_checksum(self.datagram(ALLOWED, b"\0\0"), at, denied, ETHERNET + IPV4 + 8), at,
                        protocol="udp")

    def test_the_protocol_is_a_checksum(self):
        """A solicitation of a neighbour by its looks, which always passes: ICMPv6 of type 135 and hop limit 255."""
        source, target, at = "fe80::11", "fe80::50", ETHERNET + 6
        segment = packets.udp(source, target, 135 << 8, self.port, self.mark)
        frame = bytearray(packets.ethernet(self.wire.mac, self.mac, packets.ETH_IPV6,
                                           packets.ipv6(source, target, 17, segment)) + b"\0\0")
        frame[at:at + 2] = bytes([58, 255])
        self.is_refused(with_checksum(bytes(frame), at, 17 << 8 | 64, len(frame) - 2), at, packets.ETH_IPV6)

    def test_a_fragment_that_is_cut_into_first_ones(self):
        """Each piece gets a place of its own in the datagram, counted from its beginning."""
        def fragment(port, payload, more=0, offset=0):
            udp = struct.pack("!HHHH", 4444, port, 8 + len(payload), 0) + payload
            ip = packets.ipv4(self.attacker.ip4, self.peer.ip4, 17, udp, flags=more, offset=offset)
            return packets.ethernet(self.wire.mac, self.mac, packets.ETH_IPV4, ip)

        def send_plain(*frames):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                for frame in frames:
                    opened.sendto(frame, ("eth0", packets.ETH_IPV4))

        def send_cut(frame):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
                header = struct.pack("=BBHHHH", NEEDS_CHECKSUM, GSO_UDP, ETHERNET + IPV4 + 8, 40, ETHERNET + IPV4, 6)
                opened.sendto(header + frame, ("eth0", packets.ETH_IPV4))
        self.permitted(send_plain, fragment(ALLOWED, b"a" * 16, more=1), fragment(ALLOWED, b"b" * 8, offset=3))
        self.next_attempt()
        self.attempt(send_cut, fragment(self.port, self.mark + bytes(64), offset=100))
        self.names_the_process(self.recorded(direction="outbound", reason="malformed", protocol="udp"))
        self.nothing_arrived()

    def test_a_packet_that_is_cut_as_something_else(self):
        """As what the sender calls it (sll_protocol): NSH, a VLAN, the other IP."""
        frame = self.datagram(ALLOWED, bytes(200))

        def send_as(kind):
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
                header = struct.pack("=BBHHHH", NEEDS_CHECKSUM, GSO_UDP, ETHERNET + IPV4 + 8, 40, ETHERNET + IPV4, 6)
                opened.sendto(header + frame, ("eth0", kind))
        self.permitted(send_as, packets.ETH_IPV4)
        self.wire.wait(source=self.attacker.ip4, protocol=17)
        for kind in (0x894F, 0x8100, 0x88A8, packets.ETH_IPV6, 0x88B5):
            with self.subTest(kind=hex(kind)):
                self.next_attempt()
                if self.attempt(send_as, kind) != "EINVAL":  # the kernel's own refusal, of what it cannot cut
                    self.recorded(direction="outbound", reason="malformed", protocol="udp")
                self.nothing_arrived()

    def test_a_ring_that_is_written_to_meanwhile(self):
        frame, at = self.datagram(ALLOWED), ETHERNET + IPV4 + 2
        allowed, denied = struct.pack("!H", ALLOWED), struct.pack("!H", self.port)

        def attack():
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V2)
                opened.setsockopt(SOL_PACKET, PACKET_TX_RING, struct.pack("IIII", 4096, 1, 4096, 1))
                opened.bind(("eth0", packets.ETH_IPV4))
                with mmap.mmap(opened.fileno(), 4096) as ring:
                    ring[SHOWN:SHOWN + len(frame)] = frame
                    port = slice(SHOWN + at, SHOWN + at + 2)
                    flipping = os.fork()
                    while flipping == 0:
                        ring[port] = allowed
                        ring[port] = denied
                    try:
                        for _ in range(400):
                            struct.pack_into("II", ring, 0, TP_STATUS_SEND_REQUEST, len(frame))
                            try:
                                opened.send(b"", socket.MSG_DONTWAIT)
                            except OSError:  # it was refused
                                pass
                            time.sleep(0.0005)
                    finally:
                        os.kill(flipping, signal.SIGKILL)
                        os.waitpid(flipping, 0)
        self.next_attempt()
        self.permitted(attack)
        self.recorded(direction="outbound", protocol="udp", dst__port=self.port)
        self.assertEqual(self.wire.matching(port=self.port), [])

