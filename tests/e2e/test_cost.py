# SPDX-License-Identifier: Apache-2.0
"""What runs for traffic that is under way, by the kernel's own count of programs run: how often, not how long."""

import ctypes
import json
import os
import platform
import subprocess

from harness.bulkhead import Agent
from harness.case import LabTest

POLICY = """
version: 1
segment: all
selector: {role: app}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: in, from: any, service: [tcp/7000, udp/7000]}
  - {id: out, to: any, service: [tcp/7000, udp/7000]}
"""
BPF_ENABLE_STATS = 32  # of enum bpf_cmd; for as long as the descriptor is open, unlike the sysctl
BPF_NUMBER = {"x86_64": 321, "aarch64": 280}
TURNS = 500


def count_runs():
    """A descriptor that makes the kernel count, or None where it cannot."""
    number = BPF_NUMBER.get(platform.machine())
    attribute = ctypes.create_string_buffer(128)  # type 0: BPF_STATS_RUN_TIME
    fd = ctypes.CDLL(None, use_errno=True).syscall(number, BPF_ENABLE_STATS, attribute, 128) if number else -1
    return fd if fd >= 0 else None


class CostTest(LabTest):
    guard = "always"

    @classmethod
    def arrange(cls):
        cls.hosts = [cls.lab.add_host(name) for name in ("server", "client")]
        for host in cls.hosts:
            folder = host.dir / "policies"
            folder.mkdir()
            (folder / "policy.yaml").write_text(POLICY)
            Agent(host, {"role": "app"}, policy_dir=folder, extra=f"guard: {cls.guard}\n").start()
        cls.server, cls.client = cls.hosts
        for kind in ("tcp", "udp"):
            cls.server.serve(kind, 7000)

    def setUp(self):
        self.counting = count_runs()
        if self.counting is None:
            self.skipTest("the kernel does not count how often programs run")
        self.addCleanup(os.close, self.counting)

    def runs(self) -> dict[str, int]:
        """How often each program of this lab's agents has run, by what it is attached to."""
        runs = {}
        for pins in self.lab.pins():
            for pin in sorted((pins / "links").iterdir()):
                program = self.shown("prog", "id", str(self.shown("link", "pinned", pin)["prog_id"]))
                if program["type"] not in ("tracing", "raw_tracepoint"):  # processes of the whole machine
                    runs[pin.name] = runs.get(pin.name, 0) + program.get("run_cnt", 0)
        return runs

    @staticmethod
    def shown(what, *which):
        shown = subprocess.run(["bpftool", "-j", what, "show", *which], capture_output=True, check=True)
        return json.loads(shown.stdout)

    def runs_of(self, connection) -> dict[str, int]:
        """What ran during TURNS exchanges on a connection that is open."""
        for _ in range(20):  # what is asked for the first datagrams only
            self.assertTrue(connection.exchange()["ok"])
        before = self.runs()
        for _ in range(TURNS):
            self.assertTrue(connection.exchange()["ok"])
        after = self.runs()
        return {name: after[name] - before[name] for name in after if after[name] != before[name]}


class DoorsOnly(CostTest):
    guard = "never"

    def test_nothing_runs_for_a_connection_that_is_open(self):
        for address in (self.server.ip4, self.server.ip6):
            connection = self.client.hold(address, 7000)
            self.assertEqual(self.runs_of(connection), {}, address)
            connection.close()

    def test_a_datagram_between_unconnected_sockets_meets_one_program_where_it_is_sent_looked_up_and_read(self):
        connection = self.client.hold(self.server.ip4, 7000, kind="hold-udp")
        runs = self.runs_of(connection)
        connection.close()
        # Twice: both ends. The server listens for both families; the client does not ask whose a datagram was.
        self.assertEqual(runs, {"sendmsg4": 2 * TURNS, "sk_lookup": 2 * TURNS, "recvmsg6": TURNS})


class Guarded(CostTest):
    def test_a_segment_meets_one_program_at_each_interface(self):
        connection = self.client.hold(self.server.ip4, 7000)
        runs = self.runs_of(connection)
        connection.close()
        self.assertTrue(runs and all(name.startswith("guard_") for name in runs), runs)
        # A question and its answer, each of which leaves and enters; acknowledgements travel with them, or not.
        self.assertLessEqual(sum(runs.values()), 8.2 * TURNS, runs)


del CostTest
