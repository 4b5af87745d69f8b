# SPDX-License-Identifier: Apache-2.0
"""The agent under what its systemd unit takes from it (harness/as_unit.py), with what needs most privileges.

Every other test does the same with BULKHEAD_AS_UNIT=1.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from harness.bulkhead import REPOSITORY, Agent, Controller, deploy
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import NARROW, policy

AS_UNIT = [sys.executable, Path(__file__).parent / "harness/as_unit.py", REPOSITORY / "packaging/systemd/bulkheadd.service"]


class UnderItsUnit(LabTest):
    @classmethod
    def arrange(cls):
        cls.controller, agents = deploy(cls.lab, {"app": {"role": "app"}}, as_unit=True)
        cls.agent, cls.app = agents["app"], agents["app"].host
        cls.guest = cls.lab.add_host("guest", 50)
        cls.guest.serve("tcp", 7001)
        for port in (7000, 7001):
            cls.app.serve("tcp", port)

    def test_it_has_no_capability_but_those_of_the_unit(self):
        status = Path(f"/proc/{self.agent.process.pid}/status").read_text()
        held = int(status.split("CapEff:")[1].split()[0], 16)
        self.assertEqual(held >> 12 & 1, 1, "net_admin")
        for number, name in ((0, "chown"), (1, "dac_override"), (7, "setuid"), (13, "net_raw"), (16, "sys_module")):
            self.assertEqual(held >> number & 1, 0, name)
        self.assertIn("Seccomp:\t2", status)

    def test_enters_the_network_namespaces_of_workloads(self):
        self.app.start("unshare", "--net", "sleep", "60")
        links = self.lab.pins()[0] / "links"
        wait_until(lambda: list(links.glob("sk_lookup_*")), 20, "an inbound door in the other namespace")
        self.controller.apply(policy(sessions="cut"), name="again.yaml")  # looks at the sessions there
        self.agent.stop()
        self.agent.start()
        self.assertNotIn("not permitted", self.agent.log())

    def test_reads_programs_that_only_their_user_may_read(self):
        program = self.app.dir / "private" / "curl"
        program.parent.mkdir()
        shutil.copy("/usr/bin/curl", program)
        for path in (program, program.parent):
            path.chmod(0o700)
            shutil.chown(path, "nobody")
        digest = hashlib.sha256(program.read_bytes()).hexdigest()
        allow = f"  - {{id: own, to: any, service: [tcp/7001], process: {{exe: {program}, sha256: {digest}}}}}"
        self.controller.apply(policy(outbound="deny", allow=allow), name="digest.yaml")
        result = self.app.run(program, "-s", "--max-time", "1", "-o", "/dev/null", "-w", "%{num_connects}",
                              f"http://{self.guest.ip4}:7001/", user="nobody")
        self.assertEqual(result.stdout, "1", result)

    def test_enforces_cuts_names_processes_and_takes_over(self):
        self.controller.apply(policy())
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.await_record(self.controller.violations, dst__port=7001)
        session = self.guest.pipe("python3", "-c", HOLD, self.app.ip4, "7000")
        self.assertEqual(session.stdout.readline(), "open\n")
        record = self.await_record(self.controller.records, dst__port=7000)
        self.assertTrue(record["process"]["exe"], record)
        self.agent.stop()
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.agent.start()
        wait_until(lambda: self.controller.agent_status("app").get("connected"), 30, "reconnected")
        self.controller.apply(policy(sessions="cut", allow=NARROW), name="narrow.yaml")
        self.assertEqual(session.stdout.readline(), "cut\n")
        self.assertEqual(self.agent.stop(), 0)
        self.agent.detach().check()
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7001))
        self.agent.start()


HOLD = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)
connection.settimeout(20)
print("open", flush=True)
try:
    connection.recv(1)
    print("closed", flush=True)
except ConnectionResetError:
    print("cut", flush=True)
"""

# Init of a host of its own, as far as mounts go: what the agent's mount namespace is a slave of.
INIT = """
mount --make-rshared / && umount /sys/fs/bpf && mount -t bpf bpf /sys/fs/bpf || exit 1
"$@" & wait $!
"""


class BpfFileSystemOfTheHost(LabTest):
    """The agent has a mount namespace of its own; the bpf file system must be the host's all the same."""

    @classmethod
    def arrange(cls):
        cls.controller = Controller(cls.lab.add_host("ctl", 1)).start()
        cls.app = cls.lab.add_host("app")
        cls.guest = cls.lab.add_host("guest", 50)
        cls.agent = Agent(cls.app, {"role": "app"}, cls.controller)
        cls.agent.argv = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
                          "--mount-proc", "sh", "-c", INIT, "init", *map(str, AS_UNIT), str(cls.agent.dir), "--",
                          *cls.agent.argv]
        cls.agent.enrol()
        wait_until(lambda: cls.controller.agent_status("app").get("connected"), 20, "connected")
        cls.app.serve("tcp", 7001)
        cls.controller.apply(policy())

    def in_host(self, *command):
        """Runs in the mount namespace of the agent's init."""
        unshare = self.agent.process.pid
        init = Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0]
        return subprocess.run(["nsenter", "-t", init, "-m", "-p", *command], stdout=subprocess.PIPE, text=True, check=False)

    def pinned(self):
        return self.in_host("sh", "-c", "ls /sys/fs/bpf/bulkhead/*/maps/bh_control 2>/dev/null").stdout.strip()

    def test_one_that_is_unmounted_comes_back_in_the_host(self):
        before = self.pinned()
        self.assertTrue(before)
        self.assertEqual(self.in_host("umount", "/sys/fs/bpf").returncode, 0)
        wait_until(lambda: self.pinned() == before, 20, "pinned again, where the host sees it")
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
