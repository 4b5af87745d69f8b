# SPDX-License-Identifier: Apache-2.0
"""Verdicts on real sockets: protocol x address family x where and why it is decided."""

import time

from harness.bulkhead import deploy
from harness.case import LabTest
from harness.lab import wait_until

POLICY = """
version: 1
segment: clients
selector: {role: client}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: work, to: {segment: servers}, service: [tcp/7000-7001, udp/7000-7001]}
deny:
  - {id: never, to: {segment: servers}, service: [tcp/7001, udp/7001]}
---
version: 1
segment: servers
selector: {role: server}
mode: enforce
inbound: deny
outbound: allow
allow:
  - {id: guests, from: {addresses: guests}, service: [tcp/7003-7010, udp/7003-7010]}
deny:
  - {id: not-guests, from: any, service: [tcp/7003, udp/7003]}
---
version: 1
addresses: {guests: [10.77.0.50/32, "fd77::50/128"]}
"""

# Every port has a server behind it, so that a refusal is the policy's.
PORTS = (7000, 7001, 7002, 7003, 7004, 7010)
KINDS = {"tcp": "tcp", "udp": "udp", "udp_unconnected": "udp-sendto"}
FAMILIES = ("ipv4", "ipv6", "mapped")


class Doors(LabTest):
    @classmethod
    def arrange(cls):
        cls.controller, cls.agents = deploy(cls.lab, {"client": {"role": "client"}, "server": {"role": "server"}})
        cls.client, cls.server = cls.agents["client"].host, cls.agents["server"].host
        cls.guest = cls.lab.add_host("guest", 50)  # no agent: only the server's end decides
        for port in PORTS:
            cls.server.serve("tcp", port)
            cls.server.serve("udp", port)
        cls.controller.apply(POLICY)

    def address(self, family):
        return {"ipv4": self.server.ip4, "ipv6": self.server.ip6, "mapped": f"::ffff:{self.server.ip4}"}[family]

    def attempt(self, host, kind, family, port):
        return host.probe(KINDS[kind], self.address(family), port)

    def violation(self, agent, kind, family, **conditions):
        """Violations name IPv4 for mapped addresses."""
        ip = self.server.ip6 if family == "ipv6" else self.server.ip4
        protocol = "tcp" if kind == "tcp" else "udp"
        return self.await_record(self.agents[agent].violations, kind="violation", event="deny", verdict="denied",
                                 protocol=protocol, dst__ip=ip, **conditions)

    def allowed(self, kind, family):
        self.assertPasses(self.attempt(self.client, kind, family, 7000))

    def outbound_default(self, kind, family):
        self.assertRefused(self.attempt(self.client, kind, family, 7002), "EPERM")
        record = self.violation("client", kind, family, dst__port=7002, direction="outbound", reason="default",
                                rule="clients/default-outbound")
        self.assertEqual(record["dst"]["workload"], "server")
        self.assertIn("python3", record["process"]["exe"])
        self.assertEqual(record["process"]["unit"], "session.scope")

    def outbound_deny_rule(self, kind, family):
        self.assertRefused(self.attempt(self.client, kind, family, 7001), "EPERM")
        self.violation("client", kind, family, dst__port=7001, direction="outbound", reason="rule",
                       rule="clients/never")

    def refused_inbound(self, kind, family, port):
        outcome = self.attempt(self.guest, kind, family, port)
        if kind == "udp_unconnected":  # an unconnected socket is not told of port unreachable (ip(7), IP_RECVERR)
            self.assertFalse(outcome["ok"])
            self.assertEqual(outcome["error"], "ETIMEDOUT")
        else:
            self.assertRefused(outcome, "ECONNREFUSED")

    def inbound_default(self, kind, family):
        self.refused_inbound(kind, family, 7002)
        guest = self.guest.ip6 if family == "ipv6" else self.guest.ip4  # others are refused there too
        record = self.violation("server", kind, family, src__ip=guest, dst__port=7002, direction="inbound",
                                reason="default", rule="servers/default-inbound")
        self.assertEqual(record["process"]["unit"], "echo.service")

    def inbound_deny_rule(self, kind, family):
        self.refused_inbound(kind, family, 7003)
        self.violation("server", kind, family, dst__port=7003, direction="inbound", reason="rule",
                       rule="servers/not-guests")

    def inbound_allow_by_address(self, kind, family):
        for port in (7004, 7010):
            self.assertPasses(self.attempt(self.guest, kind, family, port))

    def test_only_the_guarded_cgroup_is_judged(self):
        outcome = self.client.run("python3", "-c", "import socket; socket.create_connection(('10.77.0.12', 7002), 2)",
                                  daemon=True)
        # Not judged on its way out; refused at the server, where the client is no guest.
        self.assertIn("Connection refused", outcome.stderr)

    def test_closed_port_of_nobody_answers_as_before(self):
        self.assertRefused(self.guest.probe("tcp", self.server.ip4, 9), "ECONNREFUSED")

    def test_loopback_is_not_judged(self):
        self.client.serve("tcp", 7002, "127.0.0.1")
        self.assertPasses(self.client.probe("tcp", "127.0.0.1", 7002))

    def test_allowed_connections_are_recorded_at_both_ends(self):
        held = self.client.hold(self.server.ip4, 7000)
        self.assertTrue(held.exchange("x" * 999)["ok"])
        time.sleep(0.2)  # flow events are read every 50 ms; what a process was can be read while it lives
        held.close()
        for agent, direction, sent in (("client", "outbound", "bytes_out"), ("server", "inbound", "bytes_in")):
            close = self.await_record(self.agents[agent].records, kind="flow", event="close", protocol="tcp",
                                      direction=direction, dst__port=7000, rule="clients/work", **{sent: 1000})
            self.assertEqual(close["verdict"], "allowed")
            self.assertEqual(close["src"]["workload"], "client")
            self.assertEqual(close["dst"]["workload"], "server")
            self.assertEqual(close["src"]["segments"], ["clients"])
            self.assertEqual(close["dst"]["labels"]["role"], "server")
            self.assertGreater(close["duration_us"], 0)
            opened = self.await_record(self.agents[agent].records, event="open", flow_id=close["flow_id"])
            self.assertEqual(opened["community_id"], close["community_id"])
            self.assertIn("python3", opened["process"].get("exe", ""), opened)

    def test_records_of_both_ends_reach_the_controller(self):
        self.assertPasses(self.client.probe("tcp", self.server.ip6, 7000))
        for host in ("client", "server"):
            self.await_record(self.controller.records, host=host, event="open", dst__ip=self.server.ip6)

    def test_a_scan_is_refused_at_once_and_counted(self):
        result = self.guest.run("nmap", "-Pn", "-n", "-sT", "-p", "7000-7002", self.server.ip4, timeout=30).check()
        self.assertEqual(result.stdout.count("closed"), 3, result)
        wait_until(lambda: {record["dst"]["port"] for record in self.controller.violations("--from", self.guest.ip4)}
                   >= {7000, 7001, 7002}, 5, "a violation for every scanned port")


CASES = {
    "allowed": Doors.allowed,
    "outbound_default_is_refused_with_eperm": Doors.outbound_default,
    "outbound_deny_rule_beats_allow": Doors.outbound_deny_rule,
    "inbound_default_is_refused_like_a_closed_port": Doors.inbound_default,
    "inbound_deny_rule_beats_allow": Doors.inbound_deny_rule,
    "inbound_allow_by_address": Doors.inbound_allow_by_address,
}

for _kind in KINDS:
    for _family in FAMILIES:
        for _name, _check in CASES.items():
            setattr(Doors, f"test_{_kind}_{_family}_{_name}",
                    lambda self, check=_check, kind=_kind, family=_family: check(self, kind, family))
