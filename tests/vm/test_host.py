# SPDX-License-Identifier: Apache-2.0
"""The life of one host that has the packages installed: each test goes on where the one before it ended."""

import os
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import images
import machine
import network
from network import FRIEND, STRANGER

HERE = Path(__file__).resolve().parent
POLICY = """
version: 1
segment: shop
selector: {{app: shop}}
mode: {mode}
inbound: deny
outbound: deny
allow:
  - {{id: sells, from: {{cidr: [{friend4}/32, "{friend6}/128"]}}, service: [tcp/8000, udp/8000]}}
  - id: sells-by-unit
    from: {{cidr: [{friend4}/32, "{friend6}/128"]}}
    service: [tcp/8001, tcp/8003]
    process: {{unit: shop.service}}
  - {{id: pings, from: {{cidr: [{friend4}/32, "{friend6}/128"]}}, service: icmp/echo}}
  - {{id: buys, to: {{cidr: [{friend4}/32, "{friend6}/128"]}}, service: tcp/7000}}
"""
UNIT = """[Unit]
Description=Echo servers of {name}
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStart=/usr/bin/python3 /usr/local/lib/bulkhead-test/echo.py {ports}

[Install]
WantedBy=sysinit.target
"""
# What the machine answers when it connects: "ok" or the name of the error.
CALL = """python3 -c '
import errno, socket, sys
try:
    tcp = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20)
    tcp.sendall(b"ping")
    print("ok" if tcp.recv(16) == b"ping" else "closed")
except OSError as error:
    print(errno.errorcode.get(error.errno, "silence"))
' {} {}"""


def write_policy(vm, mode):
    text = POLICY.format(mode=mode, friend4=FRIEND[4], friend6=FRIEND[6])
    vm.write("/etc/bulkhead/policy/.new", text)
    vm.check("mv /etc/bulkhead/policy/.new /etc/bulkhead/policy/shop.yaml")


def wait_for(condition, what, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.5)


def disk_of(packages, folder, image_name):
    """A tar archive of the packages, and of what they depend on that the image has not."""
    release, _ = images.parse(image_name)
    cache = Path(os.environ["BULKHEAD_VM_CACHE"])
    content = folder / "packages"
    content.mkdir()
    for package in packages:
        subprocess.run(["cp", package, content], check=True)
    for package in sorted((cache / release / "dependencies").glob("*.deb")):
        subprocess.run(["cp", package, content], check=True)
    disk = folder / "packages.tar"
    subprocess.run(["tar", "-C", content, "-cf", disk, "."], check=True)
    subprocess.run(["truncate", "-s", "%1M", disk], check=True)
    return disk


class HostTest(unittest.TestCase):
    """Its methods run in the order of their names; after the first that fails, the others are skipped."""

    broken = None

    @classmethod
    def setUpClass(cls):
        name = os.environ["BULKHEAD_VM"]
        folder = tempfile.TemporaryDirectory(prefix="bulkhead-vm-", dir=os.environ["BULKHEAD_VM_RUN"])
        cls.addClassCleanup(folder.cleanup)
        cls.packages = sorted(Path(os.environ["BULKHEAD_VM_PACKAGES"]).glob("bulkhead-*.deb"))
        disk = disk_of(cls.packages, Path(folder.name), name)
        network.open_tap()
        cls.addClassCleanup(network.close_tap)
        cls.echo = network.Echo([*FRIEND.values(), *STRANGER.values()], 7000)
        image = images.get(Path(os.environ["BULKHEAD_VM_CACHE"]), name)
        cls.vm = machine.Machine(image, Path(folder.name) / "machine", tap=network.TAP, disks=[disk],
                                 kernel_options=os.environ.get("BULKHEAD_VM_OPTIONS", ""))  # fmt: skip
        cls.addClassCleanup(cls.vm.close)
        cls.vm.wait_for_boot()

    def run(self, result=None):
        if type(self).broken:
            broken = type(self).broken

            def skip():
                self.skipTest(f"after {broken}")

            setattr(self, self._testMethodName, skip)
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before and not type(self).broken:
            type(self).broken = self._testMethodName
            print(self.vm.run("journalctl -b -u bulkheadd --no-pager | tail -n 40").output, flush=True)

    def wait_for_agent(self):
        wait_for(lambda: self.vm.run("systemctl is-active bulkheadd").status == 0, "the agent runs", 600)

    def assert_enforced(self):
        for version in (4, 6):
            with self.subTest(version=version):
                for port in (8000, 8001):
                    self.assertEqual("ok", network.connect(version, FRIEND, port), f"friend, tcp/{port}")
                self.assertEqual("ok", network.ask(version, FRIEND, 8000), "friend, udp/8000")
                self.assertEqual("refused", network.connect(version, STRANGER, 8000), "stranger, tcp/8000")
                self.assertEqual("refused", network.ask(version, STRANGER, 8000), "stranger, udp/8000")
                self.assertEqual("refused", network.connect(version, FRIEND, 8002), "no rule, tcp/8002")
                self.assertEqual("refused", network.connect(version, FRIEND, 8003), "another unit's, tcp/8003")
                self.assertEqual("refused", network.connect(version, FRIEND, 8100), "closed, tcp/8100")
                self.assertEqual("refused", network.ask(version, FRIEND, 8100), "closed, udp/8100")
                self.assertTrue(network.pings(version, FRIEND), "friend pings")
                self.assertFalse(network.pings(version, STRANGER, 1), "stranger pings")
                self.assertEqual("ok", self.vm.check(CALL.format(FRIEND[version], 7000)).strip(), "to the friend")
                self.assertEqual("EPERM", self.vm.check(CALL.format(STRANGER[version], 7000)).strip(), "to the stranger")

    def test_0_booted_as_asked(self):
        options = os.environ.get("BULKHEAD_VM_OPTIONS", "")
        modules = self.vm.check("cat /sys/kernel/security/lsm").strip()
        print(f"        {self.vm.check('uname -r').strip()}, LSM {modules}", flush=True)
        if "lsm=" in options:
            self.assertEqual(options.endswith("bpf") or ",bpf " in options, "bpf" in modules.split(","))
        hybrid = self.vm.run("test -d /sys/fs/cgroup/unified").status == 0
        self.assertEqual("unified_cgroup_hierarchy=0" in options, hybrid)

    def test_1_open_before(self):
        self.vm.write("/usr/local/lib/bulkhead-test/echo.py", (HERE / "echo.py").read_text())
        for name, ports in (("shop", "8000 8001"), ("other", "8002 8003")):
            self.vm.write(f"/etc/systemd/system/{name}.service", UNIT.format(name=name, ports=ports))
        self.vm.check("systemctl daemon-reload && systemctl enable --now shop.service other.service")
        for port in (8001, 8003):  # the last that each of them opens
            wait_for(lambda port=port: network.connect(4, STRANGER, port) == "ok", f"the echo server on port {port}")
        for version in (4, 6):
            for peer in (FRIEND, STRANGER):
                self.assertEqual("ok", network.connect(version, peer, 8003))
                self.assertEqual("ok", network.ask(version, peer, 8000))

    def test_2_install(self):
        self.vm.check("mkdir -p /var/tmp/packages && tar -C /var/tmp/packages -xf /dev/vdb")
        self.vm.write("/etc/bulkhead/agent.env", 'BULKHEAD_OPTIONS="--policy-dir /etc/bulkhead/policy --label app=shop"\n')
        # An emulated processor takes a hundred times as long to prove the programs.
        self.vm.write("/etc/systemd/system/bulkheadd.service.d/emulated.conf", "[Service]\nTimeoutStartSec=900s\n")
        write_policy(self.vm, "test")
        self.vm.check("apt-get install -y /var/tmp/packages/*.deb </dev/null", timeout=900)
        self.wait_for_agent()
        self.assertEqual("enabled", self.vm.check("systemctl is-enabled bulkheadd").strip())

    def test_3_test_mode(self):
        for version in (4, 6):
            self.assertEqual("ok", network.connect(version, STRANGER, 8000))
            self.assertEqual("ok", network.ask(version, STRANGER, 8000))
        for word in (STRANGER[4], STRANGER[6], "would-deny"):
            wait_for(lambda: word in self.vm.run("bulkheadctl --local violations --last 50 -o json").output,
                     f"a record of what would be refused names {word}")  # fmt: skip

    def test_4_enforce(self):
        write_policy(self.vm, "enforce")
        wait_for(lambda: network.connect(4, STRANGER, 8000) == "refused", "the policy is in force")
        self.assert_enforced()
        violations = self.vm.check("bulkheadctl --local violations --last 200 -o json")
        for word in (STRANGER[4], STRANGER[6], '"denied"', "other.service"):
            self.assertIn(word, violations)

    def test_5_agent_killed(self):
        held = network.HeldConnection(4, FRIEND, 8000)
        try:
            self.vm.check("systemctl kill -s KILL bulkheadd.service")
            self.assertEqual("refused", network.connect(4, STRANGER, 8000))
            self.assertEqual("ok", network.connect(4, FRIEND, 8000))
            self.wait_for_agent()
            self.assert_enforced()
        finally:
            held.stop()
        self.assertIsNone(held.failure)
        self.assertGreater(held.exchanged, 0)

    def test_6_reboot(self):
        knocker = network.Knocker(4, 8000, [FRIEND, STRANGER])
        knocker6 = network.Knocker(6, 8000, [FRIEND, STRANGER])
        try:
            boots = len(self.vm.boots)
            self.vm.start("systemctl reboot")
            self.vm.wait_for_boot(boots + 1)
            wait_for(lambda: network.connect(4, FRIEND, 8000) == "ok", "the machine is on the network")
        finally:
            answers = [*knocker.stop(), *knocker6.stop()]
        self.assertGreater(len(answers), 20)
        self.assertNotIn("ok", knocker.of(STRANGER, 4), "the stranger came in by IPv4 while the machine booted")
        self.assertNotIn("ok", knocker6.of(STRANGER, 6), "the stranger came in by IPv6 while the machine booted")
        self.assertIn("ok", knocker.of(FRIEND, 4))
        self.assertIn("ok", knocker6.of(FRIEND, 6))
        self.assert_enforced()

    def test_7_upgrade(self):
        held = [network.HeldConnection(version, FRIEND, 8000) for version in (4, 6)]
        knocker = network.Knocker(4, 8000, [FRIEND, STRANGER])
        try:
            self.vm.check("apt-get install -y --reinstall /var/tmp/packages/bulkhead-agent*.deb </dev/null", timeout=900)
            self.wait_for_agent()
        finally:
            knocker.stop()
            for connection in held:
                connection.stop()
        self.assertEqual([None, None], [connection.failure for connection in held])
        self.assertNotIn("ok", knocker.of(STRANGER, 4), "a gap while the agent was replaced")
        self.assertNotIn("refused", knocker.of(FRIEND, 4), "a connection refused while the agent was replaced")
        self.assert_enforced()

    def test_8_purge(self):
        self.vm.check("apt-get purge -y 'bulkhead-*' </dev/null", timeout=600)
        for version in (4, 6):
            self.assertEqual("ok", network.connect(version, STRANGER, 8002))
            self.assertTrue(network.pings(version, STRANGER))
        left = self.vm.check("ls -d /sys/fs/bpf/bulkhead /var/lib/bulkhead /run/bulkhead /usr/sbin/bulkheadd "
                             "/etc/bulkhead/agent.yaml 2>/dev/null; bpftool prog show | grep ' name bh_'; "
                             "bpftool link show; true")  # fmt: skip
        self.assertEqual("", left.strip())


