# SPDX-License-Identifier: Apache-2.0
"""What runs for traffic that is under way, by the kernel's own count of programs run: how often, not how long."""

from harness.bulkhead import Agent
from harness.case import LabTest
from harness.program_runs import counted, runs_by_pin

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
TURNS = 500


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

    def runs_of(self, connection) -> dict[str, int]:
        """What ran how often during TURNS exchanges on a connection that is open, at both ends."""
        for _ in range(20):  # what is asked for the first datagrams only
            self.assertPasses(connection.exchange())
        with counted():
            before = runs_by_pin(self.lab.pins())
            for _ in range(TURNS):
                self.assertPasses(connection.exchange())
            after = runs_by_pin(self.lab.pins())
        runs = {name: (after[name] - before[name]).count for name in after}
        return {name: count for name, count in runs.items() if count}


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
        if not any(pin.name.startswith("guard_") for pins in self.lab.pins() for pin in (pins / "links").iterdir()):
            self.skipTest("the guard is a filter here, not a link whose program could be found (before Linux 6.6)")
        connection = self.client.hold(self.server.ip4, 7000)
        runs = self.runs_of(connection)
        connection.close()
        self.assertTrue(runs and all(name.startswith("guard_") for name in runs), runs)
        # A question and its answer, each of which leaves and enters; acknowledgements travel with them, or not.
        self.assertLessEqual(sum(runs.values()), 8.2 * TURNS, runs)


del CostTest
