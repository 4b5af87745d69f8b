# SPDX-License-Identifier: Apache-2.0
"""Sessions that were allowed, and ways in which they might outlive a policy that cuts them."""

import socket
import struct
import time

from harness import namespaces

from .case import ALLOWED, POLICY, EvasionTest

IPV6_RTHDR = 57
TCP_FASTOPEN_CONNECT = 30
TCP_FASTOPEN_NO_COOKIE = 34
WORK = "tcp/7000-7001, udp/7000-7001"


class Outlived(EvasionTest):
    POLICY = POLICY.replace("outbound: deny\n", "outbound: deny\nsessions: cut\n")

    @classmethod
    def arrange(cls):
        super().arrange()
        cls.file = cls.attacker.dir / "policies" / "policy.yaml"
        cls.before = cls.file.read_text()

    def tearDown(self):
        self.change_policy(self.before)
        super().tearDown()

    def change_policy(self, text):
        """And waits until it is in force: the sessions of the old one have a second from then on."""
        version = self.version()
        if text == self.file.read_text():
            return
        self.file.write_text(text)
        deadline = time.monotonic() + 10
        while self.version() == version:
            self.assertLess(time.monotonic(), deadline, "the policy is not in force")
            time.sleep(0.05)

    def version(self):
        return self.agent.status()["policy_version"]

    def denied(self, sessions="cut"):
        return self.before.replace(WORK, "tcp/7001").replace("sessions: cut", f"sessions: {sessions}")

    def survivors(self, open_sessions, sessions="cut"):
        """Names of the sessions, opened by the attacker, that reach the peer two seconds after the change."""
        def attack():
            opened = open_sessions()
            self.change_policy(self.denied(sessions))
            time.sleep(2)
            alive = []
            for name, session in opened.items():
                try:
                    session.send(self.mark)
                    time.sleep(0.05)
                    session.send(self.mark)
                    alive.append(name)
                except OSError:
                    pass
            return alive
        return self.attacker.call(attack)

    def session(self, kind, address, *, device=None, bind_later=False, port=0):
        opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
        opened.settimeout(2)
        def to_device():
            if device:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        if port:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            opened.bind(("", port))
        if not bind_later:
            to_device()
        opened.connect((address, ALLOWED))
        if bind_later:
            to_device()
        opened.send(b"before")
        return opened

    def test_bound_to_an_interface(self):
        def sessions():
            opened = {}
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                for address in (self.peer.ip4, self.peer.ip6):
                    for later in (False, True):
                        opened[f"{kind.name} {address} {later}"] = self.session(
                            kind, address, device=b"eth0", bind_later=later)
                opened[f"{kind.name} of none"] = self.session(kind, self.peer.ip4)
            return opened
        self.assertEqual(self.survivors(sessions), [])
        self.nothing_arrived()

    def test_that_share_both_ends(self):
        def sessions():
            return {f"number {i}": self.session(socket.SOCK_DGRAM, self.peer.ip4, port=4646) for i in range(8)}
        self.assertEqual(self.survivors(sessions), [])
        self.nothing_arrived()

    def test_a_route_at_whose_end_the_datagram_is(self):
        """The kernel sends to the address in the route, the door is asked about that of sendto(2)."""
        other = "fd77::66"
        namespaces.batch(self.peer.netns, [f"addr add {other}/64 dev eth0 nodad"])
        self.addCleanup(namespaces.batch, self.peer.netns, [f"addr del {other}/64 dev eth0"])
        self.change_policy(self.before.replace("mode: enforce", "mode: test"))

        def attack():
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
                route = struct.pack("!BBBBI", 0, 2, 4, 0, 0) + socket.inet_pton(socket.AF_INET6, other)
                opened.setsockopt(socket.IPPROTO_IPV6, IPV6_RTHDR, route)  # of type 4, with no segments left
                self.change_policy(self.before)
                opened.sendto(self.mark, (self.peer.ip6, ALLOWED))
        self.next_attempt()
        self.assertIn(self.attempt(attack), ("", "EPERM"))
        self.recorded(direction="outbound", reason="malformed", dst__ip=other)
        self.nothing_arrived()

    def test_a_call_that_begins_with_its_first_data(self):
        """connect(2) sends nothing; `keep` leaves sessions, and this is none."""
        def sessions():
            with open("/proc/sys/net/ipv4/tcp_fastopen", "w", encoding="ascii") as setting:
                setting.write("1")
            opened = socket.socket()
            opened.settimeout(2)
            for option in (TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE):
                opened.setsockopt(socket.IPPROTO_TCP, option, 1)
            opened.connect((self.peer.ip4, ALLOWED))
            return {"fast open": opened}
        for how in ("cut", "keep"):
            with self.subTest(sessions=how):
                self.next_attempt()
                self.assertEqual(self.survivors(sessions, how), [])
                self.recorded(protocol="tcp", dst__port=ALLOWED)
                self.nothing_arrived()
                self.change_policy(self.before)
