# SPDX-License-Identifier: Apache-2.0
"""Network namespaces of workloads with an interface that is not the host's: what comes by it passes no guard."""

import os
import time
from pathlib import Path

from harness import namespaces
from harness.bulkhead import Agent
from harness.case import LabTest
from harness.lab import PYTHON, wait_until

POLICY = """
version: 1
segment: containers
selector: {role: host}
mode: enforce
inbound: deny
outbound: allow
"""

SERVER = """
import socket, time
listener = socket.socket()
listener.bind(("0.0.0.0", 80))
listener.listen()
time.sleep(60)
"""


class ContainerTest(LabTest):
    AGENT = {}

    @classmethod
    def arrange(cls):
        cls.host = cls.lab.add_host("host")
        cls.caller = cls.lab.add_host("caller", 50)
        policies = cls.host.dir / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text(POLICY)
        cls.agent = Agent(cls.host, {"role": "host"}, policy_dir=policies, log_level="debug", **cls.AGENT).start()
        cls.inner = cls.host.netns + "-inner"

    def setUp(self):
        """A process of the host in a namespace of its own, that does not hear yet."""
        namespaces.add(self.inner)
        self.addCleanup(namespaces.delete, self.inner)
        self.start_inside("sleep", "60")
        own = os.stat(f"/run/netns/{self.inner}").st_ino
        pins, = self.lab.pins()
        self.links = Path(pins, "links")
        self.door = self.links / f"sk_lookup_{own}"

    def start_inside(self, *argv):
        process = self.host.start("nsenter", f"--net=/run/netns/{self.inner}", *argv, unit="container.scope")
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        own = os.stat(f"/run/netns/{self.inner}").st_ino
        wait_until(lambda: os.stat(f"/proc/{process.pid}/ns/net").st_ino == own, what="the process to be there")

    def start_server(self):
        self.start_inside(PYTHON, "-c", SERVER)
        wait_until(lambda: "LISTEN" in self.host.run("nsenter", f"--net=/run/netns/{self.inner}", "ss", "-Htln",
                                                     daemon=True).stdout, what="the server to listen")

    def give_interface(self):
        try:
            namespaces.batch(self.host.netns, ["link add mv0 link eth0 type macvlan mode bridge",
                                               f"link set mv0 netns {self.inner}"])
        except Exception as error:  # noqa: BLE001 - ip(8) says that there is no such type
            self.skipTest(f"no macvlan here: {error}")
        namespaces.batch(self.inner, ["addr add 10.77.0.88/24 dev mv0", "link set mv0 up"])

    def recorded(self):
        self.await_record(self.agent.violations, event="deny", direction="inbound", src__ip=self.caller.ip4,
                          dst__ip="10.77.0.88", dst__port=80, process__unit="container.scope")


class Containers(ContainerTest):
    def wait_for_the_door(self):
        wait_until(self.door.exists, what="the inbound door")

    def test_the_door_is_there_before_somebody_hears(self):
        self.give_interface()
        self.wait_for_the_door()
        self.start_server()
        self.assertRefused(self.caller.probe("tcp", "10.77.0.88", 80), "ECONNREFUSED")
        self.recorded()

    def test_the_agent_looks_when_interfaces_come_and_go(self):
        """By itself it looks once a second, which is late for a container that starts."""
        def looks():
            before = self.agent.log().count("interfaces have changed: looking")
            namespaces.batch(self.host.netns, [f"link add v0 type veth peer name eth9 netns {self.inner}", "link del v0"])
            time.sleep(0.2)
            return self.agent.log().count("interfaces have changed: looking") > before

        wait_until(looks, what="the agent to look")  # what changes as it looks by itself needs no other look
        self.wait_for_the_door()


class WithoutAnAgent(ContainerTest):
    AGENT = {"extra": "cgroup_ingress: always\n"}

    def test_sockets_are_asked_where_no_door_stands(self):
        self.agent.kill()
        self.give_interface()
        self.start_server()
        outcome = self.caller.probe("tcp", "10.77.0.88", 80)
        self.assertFalse(outcome["ok"], outcome)
        self.assertFalse(self.door.exists())
        self.agent.start()
        self.recorded()
        self.assertIn("cgroup_ingress", self.agent.local("status").stdout)
