# SPDX-License-Identifier: Apache-2.0
"""What the evasion tests share: an attacker on a host with an agent, and a peer without one that sees what arrives."""

import datetime
import errno
import itertools
import os
import socket
from pathlib import Path

from harness import namespaces
from harness.bulkhead import Agent
from harness.case import LabTest

from .wire import Wire

ALLOWED = 7000
POLICY = """
version: 1
segment: attacker
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: work, to: {cidr: [PEER4/32, "PEER6/128"]}, service: [tcp/7000-7001, udp/7000-7001]}
"""


OWN_NAME = Path("/proc/self/comm").read_text().strip()


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def hear(host, kind, port, address="::", protocol=0):
    """A socket of the host's namespace that hears; TCP connections stand without being accepted."""
    with namespaces.inside(host.netns):
        opened = socket.socket(family_of(address), kind, protocol)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind((address, port))
    opened.settimeout(2)
    if kind == socket.SOCK_STREAM:
        opened.listen(64)
    return opened


def last_attempt(record):
    """When the last of the attempts that a record counts was made."""
    first = datetime.datetime.fromisoformat(record["time"].replace("Z", "+00:00"))
    last = first + datetime.timedelta(microseconds=record.get("duration_us", 0))
    return last.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class EvasionTest(LabTest):
    """Subclasses may give a POLICY of their own; PEER4 and PEER6 in it are the peer's addresses."""

    POLICY = POLICY
    AGENT = {}

    @classmethod
    def arrange(cls):
        cls.attacker = cls.lab.add_host("attacker")
        cls.peer = cls.lab.add_host("peer", 50)
        cls.agent = cls.guard(cls.attacker, cls.POLICY, "attacker", **cls.AGENT)
        cls.wire = Wire(cls.peer)
        cls.addClassCleanup(cls.wire.close)
        cls.numbers = itertools.count(7101)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            cls.addClassCleanup(hear(cls.peer, kind, ALLOWED).close)

    @classmethod
    def guard(cls, host, policy, role, **options):
        """An agent without a controller, its policy in force."""
        policies = host.dir / "policies"
        policies.mkdir()
        text = policy.replace("PEER4", cls.peer.ip4).replace("PEER6", cls.peer.ip6)
        (policies / "policy.yaml").write_text(text)
        return Agent(host, {"role": role}, policy_dir=policies, **options).start()

    def setUp(self):
        self.next_attempt()
        self.port = next(self.numbers)  # which nothing allows, and no other test of the class uses
        self.mark = os.urandom(16)  # what an attack wants to bring across

    def next_attempt(self):
        """Forgets what was seen and recorded until now."""
        self.wire.clear()
        self.began = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def hear(self, host, kind, port, address="::", protocol=0):
        opened = hear(host, kind, port, address, protocol)
        self.addCleanup(opened.close)
        return opened

    def attempt(self, function, *arguments, **options):
        """The function in a process of the attacker: "" or the name of its error."""
        try:
            self.attacker.call(function, *arguments, **options)
            return ""
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))

    def permitted(self, function, *arguments, **options):
        self.assertEqual(self.attempt(function, *arguments, **options), "")

    def refused(self, function, *arguments, error="EPERM", **options):
        self.assertEqual(self.attempt(function, *arguments, **options), error)

    def recorded(self, agent=None, **conditions):
        """A violation of this attempt's time."""
        def recent():
            return [record for record in (agent or self.agent).violations() if last_attempt(record) >= self.began]
        try:
            return self.await_record(recent, kind="violation", event="deny", verdict="denied", **conditions)
        except AssertionError as error:
            raise AssertionError(f"{error}; recorded are: {recent()}") from None

    def recorded_outbound(self, protocol="tcp", ip=None, port=None, process=True):
        record = self.recorded(protocol=protocol, direction="outbound", dst__ip=ip or self.peer.ip4,
                               dst__port=port or self.port)
        if process:
            self.names_the_process(record)
        return record

    def names_the_process(self, record, unit="session.scope"):
        """What the kernel tells of a process is there also when it ended at once; its executable may not be."""
        self.assertEqual(record["process"].get("unit"), unit, record)
        self.assertRegex(record["process"].get("comm", ""), f"^({OWN_NAME}|iou-[a-z]+-[0-9]+)$", record)

    def nothing_arrived(self, **fields):
        """Asked after the record was there, which is long after a frame would have been."""
        found = self.wire.matching(**(fields or {"port": self.port})) + self.wire.matching(content=self.mark)
        self.assertEqual(found, [], "this reached the peer")
