# SPDX-License-Identifier: Apache-2.0
"""What tests share whose attacker is root in a network namespace of his own on the host with the agent."""

import socket

from harness import namespaces

from . import packets
from .case import EvasionTest

SECOND4 = "10.77.0.88"  # of the inner namespace, on the host's own link


class InnerTest(EvasionTest):
    @classmethod
    def arrange(cls):
        super().arrange()
        cls.inner = cls.attacker.netns + "-inner"
        namespaces.add(cls.inner)
        cls.addClassCleanup(namespaces.delete, cls.inner)

    def inside(self, function, *arguments):
        """As a process of the attacker that has gone into the inner namespace."""
        def enter_and_do():
            namespaces.enter(self.inner)
            return function(*arguments)
        return self.attempt(enter_and_do)

    def link(self, *commands):
        namespaces.batch(self.attacker.netns, commands)

    def within(self, *commands):
        namespaces.batch(self.inner, commands)

    def administer(self, *argv, **options):
        """As root of the inner namespace."""
        return self.attacker.run("nsenter", f"--net=/run/netns/{self.inner}", *argv, daemon=True, **options)

    def macvlan(self):
        """A second identity on the wire, by the host's interface."""
        try:
            self.link("link add mv0 link eth0 type macvlan mode bridge", f"link set mv0 netns {self.inner}")
        except Exception as error:  # noqa: BLE001 - ip(8) says that there is no such type
            self.skipTest(f"no macvlan here: {error}")
        self.within(f"addr add {SECOND4}/24 dev mv0", "link set mv0 up")
        self.addCleanup(self.within, "link del mv0")

    def send_udp(self, address, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            opened.sendto(self.mark, (address, port))

    def send_raw(self, packet, address):
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as opened:
            opened.sendto(packet, (address, 0))

    def raw(self, source, port):
        return packets.ipv4(source, self.peer.ip4, 17, packets.udp(source, self.peer.ip4, 4444, port, self.mark))
