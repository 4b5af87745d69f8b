# SPDX-License-Identifier: Apache-2.0
"""Rules of netfilter, made by root on the host with the agent, that send a packet elsewhere than its socket says."""

import socket
import time

from . import calls
from .case import ALLOWED, EvasionTest

TABLE = "evasion"


class Rewritten(EvasionTest):
    def translate(self, what):
        """Until the end of the test."""
        self.attacker.run("nft", "-f", "-", stdin=f"""table ip {TABLE} {{
            chain output {{ type nat hook output priority -100; {what} dnat to {self.peer.ip4}:{self.port}; }}
            chain postrouting {{ type nat hook postrouting priority 100; ip saddr 127.0.0.1 masquerade; }}
        }}""").check()
        self.addCleanup(self.attacker.run, "nft", "delete", "table", "ip", TABLE)

    def connect(self, address, port):
        with socket.create_connection((address, port), 1) as opened:
            opened.sendall(self.mark)

    def denied_where_it_goes(self, protocol):
        self.recorded(protocol=protocol, direction="outbound", dst__ip=self.peer.ip4, dst__port=self.port)
        self.nothing_arrived()

    def test_connection_to_an_allowed_port(self):
        self.hear(self.peer, socket.SOCK_STREAM, self.port)
        self.translate(f"ip daddr {self.peer.ip4} tcp dport 7001")
        self.assertNotEqual(self.attempt(self.connect, self.peer.ip4, 7001), "")
        self.denied_where_it_goes("tcp")

    def test_connection_to_loopback(self):
        self.hear(self.peer, socket.SOCK_STREAM, self.port)
        self.attacker.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1", daemon=True).check()
        self.translate("ip daddr 127.0.0.1 tcp dport 9999")
        self.assertNotEqual(self.attempt(self.connect, "127.0.0.1", 9999), "")
        self.denied_where_it_goes("tcp")

    def test_datagrams_of_a_connected_socket(self):
        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.connect((self.peer.ip4, 7001))
                opened.send(self.mark)
        self.translate(f"ip daddr {self.peer.ip4} udp dport 7001")
        self.attempt(attack)
        self.denied_where_it_goes("udp")

    def test_datagrams_of_a_socket_whose_peer_changed(self):
        """Between address and port, which send(2) reads one after the other: a port of one peer and another's address."""
        def attack():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.bind((self.attacker.ip4, 5555))
                opened.connect(("127.0.0.1", 9))
                opened.connect((self.peer.ip4, 7001))
                calls.disconnect(opened)
                opened.sendto(self.mark, (self.peer.ip4, 7001))
        self.permitted(attack)
        self.wire.wait(content=self.mark, port=7001)
        self.next_attempt()
        self.translate(f"ip daddr {self.peer.ip4} udp dport 7001")
        self.attempt(attack)
        self.denied_where_it_goes("udp")

    def test_what_is_allowed_where_it_goes(self):
        """Also sendto(2) on a connected socket, whose packets go elsewhere than the socket says as well."""
        self.port = ALLOWED
        self.translate(f"ip daddr {self.peer.ip4} tcp dport 7001")
        self.permitted(self.connect, self.peer.ip4, 7001)
        self.wire.wait(content=self.mark, port=ALLOWED)

        def elsewhere():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
                opened.connect((self.peer.ip4, 7001))
                opened.sendto(self.mark[::-1], (self.peer.ip4, ALLOWED))
        self.permitted(elsewhere)
        self.wire.wait(content=self.mark[::-1], port=ALLOWED)


class Silent(EvasionTest):
    AGENT = {"extra": "refuse: silent\n"}

    def test_the_end_of_an_allowed_connection_is_told(self):
        listener = self.hear(self.peer, socket.SOCK_STREAM, 7001, self.peer.ip4)

        def client():
            socket.create_connection((self.peer.ip4, 7001), 2).close()
        self.permitted(client)
        accepted, _ = listener.accept()
        with accepted, self.assertRaises(ConnectionError):
            for _ in range(20):
                accepted.send(b"to nobody")
                time.sleep(0.05)
