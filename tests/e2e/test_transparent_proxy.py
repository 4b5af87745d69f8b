# SPDX-License-Identifier: Apache-2.0
"""A transparent proxy (TPROXY): the door judges the port where it listens; its connections have the one that was called."""

import time

from harness.bulkhead import Agent
from harness.case import LabTest
from harness.lab import wait_until

CALLED, CALLED_PORT, OWN_PORT, PROXY_PORT = "203.0.113.5", 80, 50051, 15006
PROXY = """
import socket, sys, threading
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.setsockopt(socket.SOL_IP, 19, 1)  # IP_TRANSPARENT
listener.bind(("", int(sys.argv[1])))
listener.listen(8)

def echo(connection):
    while data := connection.recv(100):
        connection.sendall(data)

while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
"""
TO_THE_PROXY = f"""
table ip proxied {{
  chain prerouting {{
    type filter hook prerouting priority mangle;
    ip daddr {CALLED} tcp dport {{ {CALLED_PORT}, {OWN_PORT} }} tproxy to :{PROXY_PORT} meta mark set 1 accept
  }}
}}
"""
POLICY = """
version: 1
segment: proxy
selector: {role: proxy}
mode: enforce
inbound: deny
outbound: deny
sessions: cut
allow:
  - {id: in, from: {cidr: CALLER/32}, service: [PORTS]}
"""


class TransparentProxy(LabTest):
    @classmethod
    def arrange(cls):
        cls.proxy = cls.lab.add_host("proxy")
        cls.caller = cls.lab.add_host("caller", 50)
        cls.proxy.run("nft", "-f", "-", stdin=TO_THE_PROXY).check()
        cls.proxy.run("ip", "rule", "add", "fwmark", "1", "lookup", "100", daemon=True).check()
        cls.proxy.run("ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100", daemon=True).check()
        cls.caller.run("ip", "route", "add", f"{CALLED}/32", "via", cls.proxy.ip4, daemon=True).check()
        cls.policies = cls.proxy.dir / "policies"
        cls.policies.mkdir()
        cls.allow(f"tcp/{PROXY_PORT}")
        cls.agent = Agent(cls.proxy, {"role": "proxy"}, policy_dir=cls.policies).start()
        cls.proxy.start("python3", "-c", PROXY, str(PROXY_PORT), unit="proxy.service")
        wait_until(lambda: cls.proxy.listens(PROXY_PORT), 5, "the proxy")

    @classmethod
    def allow(cls, services):
        (cls.policies / "policy.yaml").write_text(POLICY.replace("CALLER", cls.caller.ip4).replace("PORTS", services))

    def test_at_a_port_that_an_own_call_has(self):
        """What the kernel knows of who has a port is then of the call, not of the connection that came to it."""
        ports = "net.ipv4.ip_local_port_range"
        before = self.proxy.run("sysctl", "-n", ports, daemon=True).check().stdout.strip()
        self.proxy.run("sysctl", "-qw", f"{ports}={OWN_PORT} {OWN_PORT}", daemon=True).check()
        own = self.proxy.hold("127.0.0.1", PROXY_PORT)
        self.proxy.run("sysctl", "-qw", f"{ports}={before}", daemon=True).check()
        self.assertEqual(own.opened["local_port"], OWN_PORT)
        session = self.caller.hold(CALLED, OWN_PORT)
        self.assertTrue(session.exchange()["ok"])
        version = self.agent.status()["policy_version"]
        self.allow(f"tcp/{PROXY_PORT}, tcp/2")
        wait_until(lambda: self.agent.status()["policy_version"] > version, 5, "a switch")
        time.sleep(1.5)
        self.assertTrue(session.exchange()["ok"])

    def test_its_connections_live_while_its_port_is_allowed(self):
        session = self.caller.hold(CALLED, CALLED_PORT)
        self.assertTrue(session.exchange()["ok"])
        port = session.opened["local_port"]
        opened = self.await_record(self.agent.records, kind="flow", event="open", src__port=port)
        self.assertEqual((opened["verdict"], opened.get("rule", "")), ("allowed", ""), opened)
        time.sleep(0.3)  # what ends a connection that was completed too late comes at once
        self.assertTrue(session.exchange()["ok"])

        version = self.agent.status()["policy_version"]
        self.allow(f"tcp/{PROXY_PORT}, tcp/1")
        wait_until(lambda: self.agent.status()["policy_version"] > version, 5, "a switch")
        time.sleep(1.5)  # a walk at the switch, and another one a second later
        self.assertTrue(session.exchange()["ok"])
        self.agent.stop()
        self.agent.start()
        time.sleep(1.5)
        self.assertTrue(session.exchange()["ok"])

        self.allow("tcp/1")
        wait_until(lambda: not session.exchange()["ok"], 5, "the end of what is not allowed any more")
        self.await_record(self.agent.records, kind="flow", event="close", verdict="denied")
