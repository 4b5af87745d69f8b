# SPDX-License-Identifier: Apache-2.0
"""Interfaces and namespaces that the attacker makes for himself on the host with the agent."""

import errno
import fcntl
import os
import socket
import struct
import time

from harness import namespaces
from harness.lab import wait_until

from . import calls, packets
from .case import ALLOWED, hear
from .inner import DENIED4, SECOND4, InnerTest
from .test_processes import CLONE_NEWNET
from .wire import Wire

TUNSETIFF, IFF_TUN, IFF_TAP, IFF_NO_PI = 0x400454CA, 1, 2, 0x1000
INNER4, GATEWAY4 = "10.88.0.2", "10.88.0.1"


class Devices(InnerTest):
    @classmethod
    def arrange(cls):
        super().arrange()
        cls.attacker.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                         "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", daemon=True).check()
        cls.peer.run("ip", "route", "add", "10.88.0.0/24", "via", cls.attacker.ip4, daemon=True).check()

    def veth(self):
        self.link(f"link add v0 type veth peer name eth9 netns {self.inner}", f"addr add {GATEWAY4}/24 dev v0",
                  "link set v0 up")
        self.addCleanup(self.link, "link del v0")
        namespaces.batch(self.inner, [f"addr add {INNER4}/24 dev eth9", "link set eth9 up",
                                      f"route add default via {GATEWAY4}"])

    def test_veth_into_a_new_namespace(self):
        """The socket meets the door there too; what is made by hand is judged where the host forwards it."""
        self.veth()
        self.assertEqual(self.inside(self.send_udp, self.peer.ip4, self.port), "EPERM")
        self.recorded_outbound("udp")
        self.nothing_arrived()
        self.next_attempt()
        self.assertEqual(self.inside(self.send_raw, self.raw(INNER4, self.port), self.peer.ip4), "")
        self.recorded(direction="forwarded", protocol="udp", src__ip=INNER4, dst__ip=self.peer.ip4,
                      dst__port=self.port, rule="attacker/default-inbound")
        self.nothing_arrived()

    def test_a_spoofed_source_through_the_host(self):
        """From the inner namespace with the host's own address, to an allowed port."""
        self.veth()
        self.assertEqual(self.inside(self.send_raw, self.raw(self.attacker.ip4, ALLOWED), self.peer.ip4), "")
        self.recorded(protocol="udp", src__ip=self.attacker.ip4, dst__port=ALLOWED, reason="malformed")
        self.nothing_arrived()

    def test_macvlan_in_a_new_namespace(self):
        """Out by a second identity on the wire."""
        self.macvlan()
        self.assertEqual(self.inside(self.send_udp, self.peer.ip4, self.port), "EPERM")
        self.recorded_outbound("udp")
        self.nothing_arrived()
        self.next_attempt()
        self.assertIn(self.inside(self.send_raw, self.raw(SECOND4, self.port), self.peer.ip4), ("", "ENOBUFS"))
        self.recorded(protocol="udp", dst__ip=self.peer.ip4, dst__port=self.port)
        self.nothing_arrived()

    def test_bridge_with_the_interface_in_it(self):
        """The host's interface becomes a port of a bridge, and the inner namespace another one."""
        self.link("link add br9 type bridge", f"link add v0 type veth peer name eth9 netns {self.inner}",
                  "link set v0 master br9 up", "link set eth0 master br9", "link set br9 up")
        self.addCleanup(self.link, "link del v0", "link del br9")
        namespaces.batch(self.inner, ["addr add 10.77.0.89/24 dev eth9", "link set eth9 up",
                                      f"neigh add {self.peer.ip4} lladdr {self.wire.mac} dev eth9"])
        time.sleep(0.2)
        self.next_attempt()
        self.assertEqual(self.inside(self.send_raw, self.raw("10.77.0.89", self.port), self.peer.ip4), "")
        self.recorded(protocol="udp", src__ip="10.77.0.89", dst__port=self.port)
        self.nothing_arrived()

    def bridged(self):
        """The inner namespace on one link with the host's interface: sends frames."""
        self.link("link add br9 type bridge", f"link add v0 type veth peer name eth9 netns {self.inner}",
                  "link set v0 master br9 up", "link set eth0 master br9", "link set br9 up")
        self.addCleanup(self.link, "link del v0", "link del br9")
        namespaces.batch(self.inner, ["addr add 10.77.0.89/24 dev eth9", "link set eth9 up"])
        time.sleep(0.2)

        def send(kind, data, tags=()):
            frame = packets.ethernet(self.wire.mac, "02:00:00:00:00:89", kind, data, tags)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
                opened.sendto(frame, ("eth9", tags[0][0] if tags else kind))
        return send

    def test_frames_over_a_bridge(self):
        """A receiver takes off as many tags for VLAN 0 as there are."""
        send = self.bridged()
        for tags in (0, 2, 3, 4):
            with self.subTest(tags=tags):
                self.next_attempt()
                self.inside(send, packets.ETH_IPV4, self.raw("10.77.0.89", self.port), [(0x8100, 0)] * tags)
                self.recorded(direction="forwarded")
                self.nothing_arrived()
        self.next_attempt()
        self.inside(send, 0x88B5, self.mark)
        self.recorded(direction="forwarded", reason="malformed")
        self.nothing_arrived()

    def test_solicitations_over_a_bridge(self):
        """A router takes what is for somebody far away further, whatever its hop limit was."""
        send, source, near, far = self.bridged(), "fd77::89", self.peer.ip6, "2001:db8::1"

        def solicitation(target, about, more=b""):
            payload = packets.packed(about) + b"\1\1" + bytes.fromhex("020000000089") + more
            message = packets.icmpv6(source, target, 135, payload, rest=bytes(4))
            return packets.ipv6(source, target, 58, message, hops=255)
        self.inside(send, packets.ETH_IPV6, solicitation(near, near))
        self.wire.wait(content=packets.packed(near) + b"\1\1\2")
        for target, about, more in ((far, near, b""), (near, far, b""), (near, near, self.mark * 8)):
            with self.subTest(target=target, about=about):
                self.next_attempt()
                self.inside(send, packets.ETH_IPV6, solicitation(target, about, more))
                self.recorded(direction="forwarded", protocol="icmpv6", dst__ip=target, icmp__type=135)
                self.nothing_arrived(source=source)

    def test_questions_about_groups_over_a_bridge(self):
        """Multicast listener discovery is no attempt: routers ask about a group at the group, however wide it is."""
        send = self.bridged()
        for kind, group in ((130, "ff02::1234"), (130, "ff05::1:3"), (130, "ff0e::4321"), (131, "ff05::1:3")):
            with self.subTest(kind=kind, group=group):
                self.next_attempt()
                message = packets.icmpv6("fe80::89", group, kind, packets.packed(group), rest=bytes(4))
                alert = struct.pack("!BBHHH", socket.IPPROTO_ICMPV6, 0, 0x0502, 0, 0x0100)
                self.inside(send, packets.ETH_IPV6, packets.ipv6("fe80::89", group, 0, alert + message, hops=1))
                self.wire.wait(content=alert + message)
        self.next_attempt()
        message = packets.icmpv6("fe80::89", "ff0e::4321", 130, packets.packed("ff0e::4321"), rest=bytes(4))
        self.inside(send, packets.ETH_IPV6, packets.ipv6("fe80::89", "ff0e::4321", 58, message, hops=64))
        self.recorded(direction="forwarded", protocol="icmpv6", dst__ip="ff0e::4321")
        self.nothing_arrived(source="fe80::89")

    def test_errors_about_nothing_through_the_host(self):
        """Also those that say how large packets may be."""
        self.veth()
        for code in (3, 4):
            with self.subTest(code=code):
                self.next_attempt()
                packet = packets.ipv4(INNER4, self.peer.ip4, 1, packets.icmp(3, self.mark * 2, code))
                self.assertEqual(self.inside(self.send_raw, packet, self.peer.ip4), "")
                self.recorded(direction="forwarded", protocol="icmp", icmp__type=3)
                self.nothing_arrived()

    def test_errors_for_somebody_else_through_the_host(self):
        """They are for who sent what they quote, and carry more than that."""
        self.veth()
        self.peer_has_denied()
        exchange = self.allowed_exchange(self.attacker.ip4)
        self.permitted(self.send_raw, exchange["begins"], self.peer.ip4)
        for name, quoted in exchange.items():
            with self.subTest(name):
                self.next_attempt()
                packet = packets.ipv4(INNER4, DENIED4, 1, packets.icmp(3, quoted + self.mark, 1))
                self.assertEqual(self.inside(self.send_raw, packet, DENIED4), "")
                self.recorded(direction="forwarded", protocol="icmp", icmp__type=3, dst__ip=DENIED4)
                self.nothing_arrived(source=INNER4, protocol=1)

    def test_another_protocol_by_name_on_a_device_without_frames(self):
        """On a tun device what the sender calls a packet (ARP, LLDP) is not what it is."""
        if not os.path.exists("/dev/net/tun"):
            self.skipTest("no /dev/net/tun here")

        def attack(kind):
            opened = self.tunnel_device(IFF_TUN)
            os.set_blocking(opened, False)
            os.system("ip addr add 10.88.1.1/24 dev tun9 && ip link set tun9 up")
            time.sleep(1.5)  # until it is guarded
            packet = packets.ipv4("10.88.1.1", "198.51.100.7", 17,
                                  packets.udp("10.88.1.1", "198.51.100.7", 4444, self.port, self.mark))
            try:
                with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as sender:
                    sender.sendto(packet, ("tun9", kind))
            except OSError:
                pass
            time.sleep(0.1)
            left = b""
            try:
                while True:
                    left += os.read(opened, 4096)
            except BlockingIOError:
                pass
            os.close(opened)
            if self.mark in left:
                raise OSError(errno.ENOTUNIQ, "it left")
        for kind in (0x0800, 0x0806, 0x88CC):
            with self.subTest(kind=hex(kind)):
                self.next_attempt()
                self.permitted(attack, kind)
                self.recorded(direction="outbound", dst__ip="198.51.100.7")

    def tunnel_device(self, kind):
        opened = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH22x", b"tun9", kind | IFF_NO_PI))
        return opened

    def test_packets_injected_into_a_tun_device(self):
        if not os.path.exists("/dev/net/tun"):
            self.skipTest("no /dev/net/tun here")

        def attack(source, wait):
            opened = self.tunnel_device(IFF_TUN)
            os.system("ip addr add 10.88.0.1/24 dev tun9 && ip link set tun9 up")
            time.sleep(wait)  # 0: before the agent can have seen the interface
            os.write(opened, self.raw(source, self.port if source == INNER4 else ALLOWED))
            time.sleep(0.1)
            os.close(opened)
        for source in (INNER4, self.attacker.ip4):
            for wait in (0, 1.5):
                with self.subTest(source=source, wait=wait):
                    self.next_attempt()
                    self.assertEqual(self.attempt(attack, source, wait), "")
                    self.recorded(protocol="udp", src__ip=source, dst__ip=self.peer.ip4)
                    self.nothing_arrived()

    def test_vxlan(self):
        """The inner address is an allowed peer's; the outer packet goes to somebody else."""
        self.peer_has_denied()
        self.link(f"link add vx0 type vxlan id 5 remote {DENIED4} dstport 4789 local {self.attacker.ip4}",
                  "link set vx0 up", f"route add {self.peer.ip4}/32 dev vx0",
                  f"neigh add {self.peer.ip4} lladdr {self.wire.mac} dev vx0")
        self.addCleanup(self.link, "link del vx0")
        self.next_attempt()
        self.assertEqual(self.attempt(self.send_udp, self.peer.ip4, ALLOWED), "")
        self.recorded(direction="outbound", protocol="udp", dst__ip=DENIED4, dst__port=4789)
        self.assertEqual(self.wire.matching(target=DENIED4) + self.wire.matching(content=self.mark), [])

    def test_the_peers_address_made_ones_own(self):
        """What is addressed to this host's own addresses is not judged; by the interface it reaches the other's."""
        self.link(f"addr add {self.peer.ip6}/128 dev lo")
        self.addCleanup(self.link, f"addr del {self.peer.ip6}/128 dev lo")
        time.sleep(1.5)  # the agent takes up addresses

        def attack():
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
                opened.sendto(self.mark, (self.peer.ip6, self.port))
        self.next_attempt()
        self.attempt(attack)
        self.recorded(direction="outbound", protocol="udp", dst__ip=self.peer.ip6, dst__port=self.port)
        self.nothing_arrived()
