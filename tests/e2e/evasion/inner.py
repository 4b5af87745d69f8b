# SPDX-License-Identifier: Apache-2.0
"""What tests share whose attacker is root in a network namespace of his own on the host with the agent."""

import os
import socket
import time

from harness import namespaces
from harness.lab import PROBE, PYTHON, Probe

from . import packets
from .case import ALLOWED, EvasionTest

SECOND4 = "10.77.0.88"  # of the inner namespace, on the host's own link
DENIED4 = "10.77.0.66"  # of the peer, which nothing allows
NOBODY4 = "10.77.0.99"


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

    def give_macvlan(self, to):
        """`to`: a namespace's name, or the id of a thread that is in it."""
        try:
            self.link("link add mv0 link eth0 type macvlan mode bridge", f"link set mv0 netns {to}")
        except Exception as error:  # noqa: BLE001 - ip(8) says that there is no such type
            self.skipTest(f"no macvlan here: {error}")

    def macvlan(self):
        """A second identity on the wire, by the host's interface."""
        self.give_macvlan(self.inner)
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

    def peer_has_denied(self):
        namespaces.batch(self.peer.netns, [f"addr add {DENIED4}/24 dev eth0"])
        self.addCleanup(namespaces.batch, self.peer.netns, [f"addr del {DENIED4}/24 dev eth0"])

    def allowed_exchange(self, source):
        """What it begins with, and what would answer that."""
        ends, turned = (source, self.peer.ip4), (self.peer.ip4, source)
        return {"begins": packets.ipv4(*ends, 17, packets.udp(*ends, 4444, ALLOWED, b"allowed")),
                "answers": packets.ipv4(*turned, 17, packets.udp(*turned, ALLOWED, 4444, b"allowed"))}  # fmt: skip

    def start_within(self, *argv):
        return self.attacker.pipe("nsenter", f"--net=/run/netns/{self.inner}", *argv)

    def hold_within(self, address, port):
        """A connection out of the inner namespace."""
        held = Probe(self.start_within(PYTHON, PROBE, "hold", address, port))
        self.addCleanup(held.close)
        self.assertTrue(held.opened["ok"], held.opened)
        return held

    def filter_within(self, rules):
        """Until the end of the test, a table of netfilter's."""
        said = self.administer("nft", "-f", "-", stdin=f"table ip evasion {{\n{rules}\n}}\n")
        self.assertNotIn("syntax error", said.stderr)
        if said.code != 0:
            self.skipTest(f"no such rules here: {said.stderr}")
        self.addCleanup(self.administer, "nft", "delete", "table", "ip", "evasion")

    def copy_what_is_sent(self, *addresses):
        """A copy has no socket, and so looks like the kernel's own. What has one is dropped: only of copies is told."""
        to = f"ip daddr {{ {', '.join(addresses)} }}"
        self.filter_within(f"""chain output {{ type filter hook output priority 0;
            {to} dup to {self.peer.ip4} device mv0
            {to} meta skuid 0 drop
        }}""")

    def become_known(self):
        """The agent takes up the addresses of namespaces in which somebody hears."""
        hears = "import socket, time; s = socket.socket(); s.bind(('0.0.0.0', 0)); s.listen(); time.sleep(60)"
        listener = self.start_within(PYTHON, "-c", hears)
        self.addCleanup(listener.kill)
        time.sleep(2)
        self.next_attempt()

    def own(self):
        """The peer's address counts as the namespace's own, where nothing is judged."""
        self.within("link set lo up", f"addr add {self.peer.ip4}/32 dev lo")
        self.addCleanup(self.administer, "ip", "addr", "del", f"{self.peer.ip4}/32", "dev", "lo")
        self.become_known()

    def own_but_elsewhere(self, how=""):
        """The same, and it is routed to the peer."""
        self.own()
        self.within("rule add pref 10 lookup local", "rule del pref 0 lookup local",
                    f"rule add pref 5 to {self.peer.ip4} lookup 100",
                    f"route add {self.peer.ip4}/32 {how} dev mv0 src {SECOND4} table 100")
        self.addCleanup(self.within, "rule add pref 0 lookup local", "rule del pref 10 lookup local",
                        f"rule del pref 5 to {self.peer.ip4} lookup 100")

    def no_longer_own(self):
        os.system(f"ip addr del {self.peer.ip4}/32 dev lo")
        time.sleep(1.5)

    def give_connection_away(self, prepare=lambda client: None):
        """One to oneself. It began within the namespace, where no guard is."""
        with socket.create_server((self.peer.ip4, self.port)) as server, \
             socket.create_connection((self.peer.ip4, self.port), 1, (SECOND4, 0)) as client:
            server.accept()
            self.no_longer_own()
            prepare(client)
            client.sendall(self.mark * 100)
            time.sleep(1)

    def told_and_stopped(self, protocol):
        self.recorded(protocol=protocol, dst__ip=self.peer.ip4, dst__port=self.port)
        self.nothing_arrived()
