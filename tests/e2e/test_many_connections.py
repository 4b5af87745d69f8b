# SPDX-License-Identifier: Apache-2.0
"""Thousands of live connections through everything that an operator does to an agent: none is lost that the policy
allows, none lives on that `sessions: cut` forbids. BULKHEAD_CONNECTIONS says how many (scripts/test --full: 50,000)."""

import json
import os
import shutil
import signal
import subprocess

from harness.bulkhead import BUILD, Agent
from harness.case import LabTest
from harness.lab import wait_until

COUNT = int(os.environ.get("BULKHEAD_CONNECTIONS", "5000"))
KEPT, FORBIDDEN = [6000, 6001], [6002, 6003]
HOLDER = BUILD / "tests" / "e2e" / "hold_connections"


def policy(host, side, ports, more=""):
    direction, other = ("inbound", "from") if side == "server" else ("outbound", "to")
    return (f"version: 1\nsegment: {side}\nselector: {{host: {host}}}\nmode: enforce\n{direction}: deny\nsessions: cut\n"
            f"allow:\n  - {{id: held, {other}: any, service: [{', '.join(f'tcp/{port}' for port in ports)}]}}\n{more}")


class Enforced:
    """A host, its agent, and the folder that the agent takes its policy from."""

    def __init__(self, lab, name, side):
        self.host, self.side = lab.add_host(name), side
        self.folder = self.host.dir / "policies"
        self.folder.mkdir()
        self.write(KEPT + FORBIDDEN)
        self.agent = Agent(self.host, {"host": name}, policy_dir=self.folder).start(30)

    def write(self, ports, more=""):
        fresh = self.folder / ".policy.new"
        fresh.write_text(policy(self.host.name, self.side, ports, more))
        fresh.rename(self.folder / "policy.yaml")

    def generation(self):
        return self.agent.status()["generation"]

    def change(self, ports, more=""):
        """Returns when the change is in force."""
        before = self.generation()
        self.write(ports, more)
        self.agent.send(signal.SIGHUP)
        wait_until(lambda: self.generation() > before, 20, "the change is in force", 0.1)


class ManyConnections(LabTest):
    @classmethod
    def arrange(cls):
        cls.server, cls.client = Enforced(cls.lab, "server", "server"), Enforced(cls.lab, "client", "client")
        cls.both = [cls.server, cls.client]
        # A process a port and side: 50,000 descriptors are more than one process may have everywhere.
        cls.held = {}
        for port in KEPT + FORBIDDEN:
            cls.begin(cls.server, "serve", port, "ready")
        for port in KEPT + FORBIDDEN:
            cls.held[port] = cls.begin(cls.client, "connect", port, "open", COUNT // 4)

    @classmethod
    def begin(cls, where, side, port, word, *more):
        holder = where.host.pipe(HOLDER, side, cls.server.host.ip4, port, *more)
        if holder.stdout.readline() != f"{word}\n":
            raise AssertionError(f"hold_connections {side} {port}: it ended")
        return holder

    def ask(self) -> dict[int, dict]:
        """What became of the connections, by port: a byte was sent on each and is to come back."""
        for holder in self.held.values():
            holder.stdin.write("check\n")
            holder.stdin.flush()
        return {port: json.loads(holder.stdout.readline()) for port, holder in self.held.items()}

    def alive(self, ports, after):
        answer = self.ask()
        for port in ports:
            self.assertEqual(answer[port], {"alive": COUNT // 4, "ended": 0, "silent": 0}, f"{port} {after}")

    def programs(self):
        """Ids of the programs on the server's cgroup."""
        shown = subprocess.run(["bpftool", "-j", "cgroup", "show", str(self.server.host.cgroup)], capture_output=True,
                               text=True, check=True).stdout
        return {program["id"] for program in json.loads(shown)}

    def restart(self, number):
        for one in self.both:
            one.agent.stop(number)
        self.alive(KEPT + FORBIDDEN, "while no agent runs")
        for one in self.both:
            one.agent.start(30)
        self.alive(KEPT + FORBIDDEN, f"after a restart with {number.name}")

    def upgrade(self):
        """Another file with another inode takes over; the programs are replaced in the links that stand."""
        before = self.programs()
        for one in self.both:
            newer = one.host.dir / "bulkheadd-newer"
            shutil.copy(one.agent.argv[0], newer)
            one.agent.stop()
            one.agent.argv[0] = str(newer)
            one.agent.start(30)
        self.assertTrue(before.isdisjoint(self.programs()), "the programs were not replaced")
        self.alive(KEPT + FORBIDDEN, "after an upgrade")

    def cut(self):
        for one in self.both:
            one.change(KEPT)
        ended = {"alive": 0, "ended": COUNT // 4, "silent": 0}
        wait_until(lambda: all(answer[port] == ended for answer in [self.ask()] for port in FORBIDDEN), 15,
                   "every forbidden connection has ended", 0.1)
        self.alive(KEPT, "after a change that forbids others")
        self.assertRefused(self.client.host.probe("tcp", self.server.host.ip4, FORBIDDEN[0]), "EPERM")

    def test_none_is_lost_and_none_lives_on(self):
        self.alive(KEPT + FORBIDDEN, "at first")
        more = "  - {id: more, from: {cidr: [192.0.2.0/24]}, service: tcp/9}\n"
        self.server.change(KEPT + FORBIDDEN, more)
        self.client.change(KEPT + FORBIDDEN, more.replace("from", "to"))
        self.alive(KEPT + FORBIDDEN, "after a change that allows them still")
        self.restart(signal.SIGKILL)
        self.restart(signal.SIGTERM)
        self.upgrade()
        self.cut()
        self.restart_after_cut()

    def restart_after_cut(self):
        for one in self.both:
            one.agent.stop(signal.SIGKILL)
            one.agent.start(30)
        self.alive(KEPT, "after a restart that follows the cut")
