# SPDX-License-Identifier: Apache-2.0
"""Another unit's port on the same host, by every name that the host has for itself."""

import os
import socket

from harness.lab import PYTHON, wait_until

from .case import EvasionTest, family_of
from .test_listeners import SERVER

PORT, OTHER, STOLEN = 7002, 7003, 7004
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM


def connect(kind, name, port, source=None):
    with socket.socket(family_of(name), kind) as opened:
        opened.settimeout(2)
        if source:
            opened.bind((source, 0))
        opened.connect((name, port))
        opened.send(b"x")


def send_to(name, port, source=None):
    with socket.socket(family_of(name), UDP) as opened:
        if source:
            opened.bind((source, 0))
        opened.sendto(b"x", (name, port))


def send_to_connected_elsewhere(name, port):
    with socket.socket(family_of(name), UDP) as opened:
        opened.connect((name, PORT))
        opened.sendto(b"x", (name, port))


class Loopback(EvasionTest):
    """web.service may talk to db.service on one port, and nobody else to anybody."""

    POLICY = """
version: 1
segment: attacker
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
loopback: deny
allow:
  - {id: wide, to: any, service: [tcp/7000-7100, udp/7000-7100]}
  - {id: hears, from: any, service: [tcp/7000-7100, udp/7000-7100]}
  - id: begins
    to: {cidr: [127.0.0.0/8, "::1/128"]}
    service: [tcp/7002, udp/7002, tcp/7004, udp/7004]
    process: {unit: web.service}
  - id: serves
    from: {cidr: [127.0.0.0/8, "::1/128"]}
    service: [tcp/7002, udp/7002, tcp/7004, udp/7004]
    process: {unit: db.service}
"""

    @classmethod
    def arrange(cls):
        super().arrange()
        own4, own6 = cls.attacker.ip4, cls.attacker.ip6
        cls.names = ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", own4, f"::ffff:{own4}", own6,
                     "0.0.0.0", "::", "::ffff:0.0.0.0"]

    @classmethod
    def guard(cls, host, policy, role, **options):
        for unit in ("db.service", "web.service", "session.scope"):
            (host.cgroup / unit).mkdir(exist_ok=True)
        return super().guard(host, policy, role, **options)

    def serve(self, unit, kind, port=PORT, address="::"):
        process = self.attacker.pipe(PYTHON, "-c", SERVER, kind, address, port, "", unit=unit)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        process.stdout.readline()
        os.set_blocking(process.stdout.fileno(), False)
        return process

    @staticmethod
    def heard(process):
        try:
            return len(os.read(process.stdout.fileno(), 65536).split())
        except BlockingIOError:
            return 0

    def hears(self, process, what):
        wait_until(lambda: self.heard(process), 2, f"the server hears {what}")

    def by_default(self, **conditions):
        return self.recorded(rule="attacker/default-loopback", **conditions)

    def test_the_allowed_unit_reaches_it_by_every_name(self):
        tcp, udp = self.serve("db.service", "tcp"), self.serve("db.service", "udp")
        for name in self.names:
            with self.subTest(name=name):
                self.permitted(connect, TCP, name, PORT, unit="web.service")
                self.hears(tcp, name)
                self.permitted(connect, UDP, name, PORT, unit="web.service")
                self.hears(udp, name)
                self.permitted(send_to, name, PORT, unit="web.service")
                self.hears(udp, name)

    def test_another_unit_reaches_it_by_no_name(self):
        servers = self.serve("db.service", "tcp"), self.serve("db.service", "udp")
        for name in self.names:
            with self.subTest(name=name):
                self.next_attempt()
                for function in ((connect, TCP), (connect, UDP), (send_to,)):
                    self.refused(*function, name, PORT, unit="session.scope")
                for protocol in ("tcp", "udp"):
                    record = self.by_default(protocol=protocol, direction="outbound", dst__port=PORT)
                    self.names_the_process(record)
        self.assertEqual([self.heard(server) for server in servers], [0, 0])

    def test_the_address_that_was_called_is_recorded(self):
        for name in ("127.9.9.9", self.attacker.ip4, self.attacker.ip6):
            with self.subTest(name=name):
                self.refused(connect, TCP, name, self.port)
                self.by_default(protocol="tcp", direction="outbound", dst__ip=name, dst__port=self.port)

    def test_another_port_of_the_allowed_unit(self):
        for name in self.names:
            with self.subTest(name=name):
                self.next_attempt()
                self.refused(connect, TCP, name, OTHER, unit="web.service")
                self.refused(send_to, name, OTHER, unit="web.service")
                self.refused(send_to_connected_elsewhere, name, OTHER, unit="web.service")
                self.by_default(protocol="udp", direction="outbound", dst__port=OTHER)

    def test_from_one_of_its_names_to_another(self):
        server = self.serve("db.service", "tcp")
        own4 = self.attacker.ip4
        for source, name in ((own4, "127.0.0.1"), (own4, "0.0.0.0"), ("127.0.0.1", own4), ("127.0.0.2", "0.0.0.0"),
                             (f"::ffff:{own4}", "::"), (self.attacker.ip6, "::1")):
            with self.subTest(source=source, name=name):
                self.refused(connect, TCP, name, PORT, source)
                self.refused(send_to, name, PORT, source)
                self.permitted(connect, TCP, name, PORT, source, unit="web.service")
                self.hears(server, name)

    def test_a_unit_that_may_not_hear(self):
        for address in ("127.0.0.1", "0.0.0.0", "::1", "::", self.attacker.ip4):
            with self.subTest(address=address):
                self.next_attempt()
                tcp = self.serve("session.scope", "tcp", address=address)
                udp = self.serve("session.scope", "udp", address=address)
                name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
                self.refused(connect, TCP, name, PORT, unit="web.service", error="ECONNREFUSED")
                self.permitted(send_to, name, PORT, unit="web.service")
                for protocol in ("tcp", "udp"):
                    self.by_default(protocol=protocol, direction="inbound", dst__port=PORT)
                self.assertEqual((self.heard(tcp), self.heard(udp)), (0, 0))
                for process in (tcp, udp):
                    process.kill()
                    process.wait()

    def test_reuseport_theft(self):
        for kind, way in (("tcp", TCP), ("udp", UDP)):
            for first in ("db.service", "session.scope"):
                with self.subTest(kind=kind, first=first):
                    self.next_attempt()
                    units = ["db.service", "session.scope"]
                    order = units if first == units[0] else reversed(units)
                    servers = {unit: self.serve(unit, kind, STOLEN, address="127.0.0.1") for unit in order}
                    for _ in range(16):
                        self.attempt(connect, way, "127.0.0.1", STOLEN, unit="web.service")
                    self.by_default(protocol=kind, direction="inbound", dst__port=STOLEN)
                    self.assertEqual(self.heard(servers["session.scope"]), 0, "the thief heard it")
                    for process in servers.values():
                        process.kill()
                        process.wait()
