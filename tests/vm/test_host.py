# SPDX-License-Identifier: Apache-2.0
"""The life of one host that has the packages installed: each test goes on where the one before it ended."""

import collections
import contextlib
import json
import os
import re
import socket
import tempfile
import time
import unittest
from pathlib import Path

import debs
import images
import machine
import names
import network
from machine import wait_for
from network import FRIEND, STRANGER

HERE = Path(__file__).resolve().parent
TREE = HERE.parents[1]
GUEST_PROGRAMS = "/usr/local/lib/bulkhead-test"
CABLE = "bhvm1"
ETH_P_TIPC = 0x88CA
# The most that `systemd-analyze security` may say of a unit.
MOST_EXPOSED = {"bulkheadd": 4.0, "bulkhead-controller": 2.5}
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
  - {{id: takes-in, from: {{cidr: [10.98.1.2/32]}}, service: udp/7000}}
  - {{id: hands-on, to: {{cidr: [10.98.2.2/32, 10.98.3.2/32]}}, service: udp/7000}}
"""
# A namespace whose packets leave in this host's name, by a bond and by a VLAN on it. Nobody answers there.
ROUTER = """
modprobe bonding && modprobe 8021q || exit 1
set -e
ip netns add near
ip netns add far
ip link add near0 type veth peer name eth0 netns near
ip link add bond7 type bond mode active-backup miimon 100
for i in 0 1; do
  ip link add slave$i type veth peer name eth$i netns far
  ip link set slave$i master bond7
  ip -n far link set eth$i up
done
ip link add bond7.5 link bond7 type vlan id 5
for one in near0/1 bond7/2 bond7.5/3; do
  ip addr add 10.98.${one#*/}.1/24 dev ${one%/*}
  ip link set ${one%/*} up
  ip neigh replace 10.98.${one#*/}.2 lladdr 02:00:00:00:98:02 dev ${one%/*}
done
ip -n near link set eth0 up
nft add table ip forwards
nft 'add chain ip forwards leaving { type nat hook postrouting priority 100; }'
nft 'add rule ip forwards leaving ip saddr 10.98.1.2 oifname "bond7*" masquerade'
echo 1 >/proc/sys/net/ipv4/ip_forward
"""
NO_ROUTER = """
echo 0 >/proc/sys/net/ipv4/ip_forward
nft delete table ip forwards
ip link del bond7.5
ip link del bond7
ip netns del near
ip netns del far
"""
UNIT = """[Unit]
Description=Echo servers of {name}
DefaultDependencies=no
Before=network-pre.target
Wants=network-pre.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStart=/usr/bin/python3 {programs}/echo.py {ports}

[Install]
WantedBy=sysinit.target
"""
def write_policy(vm, mode):
    text = POLICY.format(mode=mode, friend4=FRIEND[4], friend6=FRIEND[6])
    vm.write("/etc/bulkhead/policy/.new", text)
    vm.check("mv /etc/bulkhead/policy/.new /etc/bulkhead/policy/shop.yaml")


def readable_since(part):
    """The oldest version that reads what this tree's leaves on disk."""
    lines = (TREE / "packaging/state-formats").read_text().splitlines()
    return next(line.split()[2] for line in lines if line.split()[:1] == [part])


def print_boot_time(vm, what, units=""):
    """For the reader: under emulation it says how the parts compare, and nothing of a real processor."""
    print(f"        boot {what}: {vm.check('systemd-analyze time').splitlines()[0]}", flush=True)
    if units:
        print(vm.check(f"systemd-analyze critical-chain --no-pager {units} 2>&1 | sed 's/^/        /'"), flush=True)


class HostTest(unittest.TestCase):
    """Its methods run in the order of their names; after the first that fails, the others are skipped."""

    broken = None

    @classmethod
    def setUpClass(cls):
        cls.asked = names.parse(os.environ["BULKHEAD_VM"])
        folder = tempfile.TemporaryDirectory(prefix="bulkhead-vm-", dir=os.environ["BULKHEAD_VM_RUN"])
        cls.addClassCleanup(folder.cleanup)
        cache, packages = Path(os.environ["BULKHEAD_VM_CACHE"]), Path(os.environ["BULKHEAD_VM_PACKAGES"])
        previous = Path(os.environ["BULKHEAD_VM_PREVIOUS"])
        cls.version, cls.previous_version = debs.version_of(packages), debs.version_of(previous)
        disk = debs.make_disk(Path(folder.name), images.dependencies_of(cache, cls.asked.image), packages, previous)
        network.open_bridge()
        cls.addClassCleanup(network.close_bridge)
        network.add_cable(CABLE)
        cls.addClassCleanup(network.remove_cable, CABLE)
        network.plug(CABLE)
        cls.echo = network.Echo([*FRIEND.values(), *STRANGER.values()], 7000)
        image = images.get(cache, cls.asked.image)
        cls.vm = machine.Machine(image, Path(folder.name) / "machine", tap=CABLE, disks=[disk],
                                 kernel_options=cls.asked.kernel_options)  # fmt: skip
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
        def runs():
            shown = self.vm.check("systemctl show -p ActiveState -p NRestarts bulkheadd").split()
            self.assertLess(int(dict(line.split("=") for line in shown)["NRestarts"]), 10, "the agent starts again and again")
            return "ActiveState=active" in shown

        wait_for(runs, "the agent runs", 900)

    def assert_runs(self, version):
        """The package's agent, and not the one before it."""
        self.assertEqual(version, self.vm.check("dpkg-query -W -f '${Version}' bulkhead-agent"))
        self.assertEqual(version, json.loads(self.vm.check("bulkheadctl --local -o json status"))["version"])

    def calls(self, address, port):
        """What the machine gets that connects: "ok" or the name of the error."""
        (answer,) = json.loads(self.vm.check(f"python3 {GUEST_PROGRAMS}/traffic.py / {address} {port}"))[address]
        return answer

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
                self.assertEqual("ok", self.calls(FRIEND[version], 7000), "to the friend")
                self.assertEqual("EPERM", self.calls(STRANGER[version], 7000), "to the stranger")

    @contextlib.contextmanager
    def assert_no_gap(self, what):
        """Conversations live on, and every attempt gets the policy's answer, inbound and outbound, for all of the block."""
        held = {f"{name}, IPv{version}": network.Held(kind, version, FRIEND, 8000) for version in (4, 6)
                for name, kind in (("TCP", socket.SOCK_STREAM), ("UDP", socket.SOCK_DGRAM))}  # fmt: skip
        knockers = {version: network.Knocker(version, 8000, [FRIEND, STRANGER], timeout=30) for version in (4, 6)}
        targets = " ".join(f"{peer[version]} 7000" for peer in (FRIEND, STRANGER) for version in (4, 6))
        outbound = self.vm.start(f"rm -f /run/stop; python3 {GUEST_PROGRAMS}/traffic.py /run/stop {targets}", 1800)
        try:
            yield
        finally:
            for one in (*held.values(), *knockers.values()):
                one.stop()
            self.vm.check("touch /run/stop")
            called = json.loads(self.vm.finish(outbound).check().output)
        answers = {address: collections.Counter(knockers[version].of(peer, version)) for version in (4, 6)
                   for address, peer in ((FRIEND[version], FRIEND), (STRANGER[version], STRANGER))}  # fmt: skip
        print(f"        {what}: " + "; ".join(f"{name}: {one.exchanged} answers" for name, one in held.items())
              + f"; inbound {sum(sum(counts.values()) for counts in answers.values())}"
              + f", outbound {sum(sum(counts.values()) for counts in called.values())} attempts", flush=True)  # fmt: skip
        self.assertEqual({name: None for name in held}, {name: one.failure for name, one in held.items()}, what)
        for version in (4, 6):
            self.assertEqual({"ok"}, set(answers[FRIEND[version]]), f"{what}: the friend, inbound: {answers}")
            self.assertEqual({"refused"}, set(answers[STRANGER[version]]), f"{what}: the stranger, inbound: {answers}")
            self.assertEqual({"ok"}, set(called[FRIEND[version]]), f"{what}: to the friend: {called}")
            self.assertEqual({"EPERM"}, set(called[STRANGER[version]]), f"{what}: to the stranger: {called}")

    def install(self, folder, options=""):
        return self.vm.run(f"apt-get install -y {options} {debs.FOLDER}/{folder}/bulkhead-*.deb </dev/null", timeout=1800)

    def test_00_booted_as_asked(self):
        modules = self.vm.check("cat /sys/kernel/security/lsm").strip()
        print(f"        {self.vm.check('uname -r').strip()}, LSM {modules}", flush=True)
        for variant, wanted in (("lsm", True), ("nolsm", False)):
            if variant in self.asked.variants:
                self.assertEqual(wanted, "bpf" in modules.split(","))
        hybrid = self.vm.run("test -d /sys/fs/cgroup/unified").status == 0
        self.assertEqual("hybrid" in self.asked.variants, hybrid)
        print_boot_time(self.vm, "without the agent")

    def test_01_open_before(self):
        for program in ("echo.py", "traffic.py"):
            self.vm.write(f"{GUEST_PROGRAMS}/{program}", (HERE / program).read_text())
        for name, ports in (("shop", "8000 8001"), ("other", "8002 8003")):
            unit = UNIT.format(name=name, programs=GUEST_PROGRAMS, ports=ports)
            self.vm.write(f"/etc/systemd/system/{name}.service", unit)
        self.vm.check("systemctl daemon-reload && systemctl enable --now shop.service other.service")
        for port in (8001, 8003):  # the last that each of them opens
            wait_for(lambda port=port: network.connect(4, STRANGER, port) == "ok", f"the echo server on port {port}")
        for version in (4, 6):
            for peer in (FRIEND, STRANGER):
                self.assertEqual("ok", network.connect(version, peer, 8003))
                self.assertEqual("ok", network.ask(version, peer, 8000))

    def tipc_frames(self):
        """That leave when TIPC is told to use the interface; it looks for others each second at first."""
        wire = json.loads(self.vm.check(f"ip -j route get {FRIEND[4]}"))[0]["dev"]
        if self.vm.run(f"modprobe tipc && tipc bearer enable media eth device {wire}").status != 0:
            self.skipTest("no TIPC here")
        try:
            return network.frames(CABLE, ETH_P_TIPC, 5)
        finally:
            self.vm.check(f"tipc bearer disable media eth device {wire}")

    def test_01_open_before_to_tipc(self):
        self.assertGreater(self.tipc_frames(), 0)

    def test_02_install_the_previous_version(self):
        debs.unpack(self.vm)
        self.vm.write("/etc/bulkhead/agent.env", 'BULKHEAD_OPTIONS="--policy-dir /etc/bulkhead/policy --label app=shop"\n')
        # An emulated processor takes a hundred times as long to prove the programs.
        self.vm.write("/etc/systemd/system/bulkheadd.service.d/emulated.conf", "[Service]\nTimeoutStartSec=900s\n")
        write_policy(self.vm, "enforce")
        self.install("previous").check()
        self.wait_for_agent()
        self.assertEqual("enabled", self.vm.check("systemctl is-enabled bulkheadd").strip())
        self.assert_runs(self.previous_version)
        wait_for(lambda: network.connect(4, STRANGER, 8000) == "refused", "the policy is in force")
        self.assert_enforced()

    def test_03_upgrade(self):
        with self.assert_no_gap("upgrade"):
            self.install("packages", "--reinstall" if self.version == self.previous_version else "").check()
            self.wait_for_agent()
        self.assert_runs(self.version)
        self.assert_enforced()

    def test_04_exposure(self):
        for unit, limit in MOST_EXPOSED.items():
            text = self.vm.check(f"systemd-analyze security --no-pager {unit}.service | tail -n 1").strip()
            print(f"        {text}", flush=True)
            self.assertLessEqual(float(re.search(r": ([0-9.]+) ", text)[1]), limit, text)

    def test_05_test_mode(self):
        write_policy(self.vm, "test")
        wait_for(lambda: network.connect(4, STRANGER, 8000) == "ok", "mode test lets pass")
        for version in (4, 6):
            self.assertEqual("ok", network.connect(version, STRANGER, 8000))
            self.assertEqual("ok", network.ask(version, STRANGER, 8000))
        for word in (STRANGER[4], STRANGER[6], "would-deny"):
            wait_for(lambda: word in self.vm.run("bulkheadctl --local violations --last 50 -o json").output,
                     f"a record of what would be refused names {word}")  # fmt: skip

    def test_06_enforce(self):
        write_policy(self.vm, "enforce")
        wait_for(lambda: network.connect(4, STRANGER, 8000) == "refused", "the policy is in force")
        self.assert_enforced()
        violations = self.vm.check("bulkheadctl --local violations --last 200 -o json")
        for word in (STRANGER[4], STRANGER[6], '"denied"', "other.service"):
            self.assertIn(word, violations)

    def test_06_enforce_on_tipc(self):
        """Whose sockets pass no door, and which anybody may let use an interface."""
        self.assertEqual(0, self.tipc_frames())
        wait_for(lambda: '"malformed"' in self.vm.run("bulkheadctl --local violations --last 20 -o json").output, "a record")

    def test_06_enforce_in_a_container_of_a_time_without_an_agent(self):
        """It has an interface that no guard is on, and no inbound door: its sockets are asked about themselves."""
        lower = json.loads(self.vm.check(f"ip -j route get {FRIEND[4]}"))[0]["dev"]
        if self.vm.run(f"ip link add container0 link {lower} type macvlan mode bridge").status != 0:
            self.skipTest("no macvlan here")
        wait_for(lambda: "cgroup_ingress" in self.vm.run("bulkheadctl --local status").output, "sockets are asked about", 300)
        self.vm.check("systemctl stop bulkheadd")
        addresses = " && ".join(f"ip -n green addr add {network.CONTAINER[version]}/{bits} dev container0 {options}"
                                for version, bits, options in ((4, 24, ""), (6, 64, "nodad")))  # fmt: skip
        self.vm.check("ip netns add green && ip link set container0 netns green && "
                      f"{addresses} && ip -n green link set lo up && ip -n green link set container0 up && "
                      "systemd-run --unit green -p NetworkNamespacePath=/run/netns/green "
                      f"/usr/bin/python3 {GUEST_PROGRAMS}/echo.py 8000")  # fmt: skip
        for version in (4, 6):
            wait_for(lambda version=version: network.connect(version, FRIEND, 8000, guest=network.CONTAINER) == "ok",
                     f"the friend reaches it by IPv{version}")  # fmt: skip
            self.assertEqual("ok", network.ask(version, FRIEND, 8000, guest=network.CONTAINER))
            self.assertEqual("silence", network.connect(version, STRANGER, 8000, 4, network.CONTAINER))
            self.assertEqual("silence", network.ask(version, STRANGER, 8000, 4, network.CONTAINER))
        self.vm.check("systemctl start bulkheadd", timeout=1800)
        self.wait_for_agent()
        for address in network.CONTAINER.values():
            wait_for(lambda address=address: address in self.vm.run("bulkheadctl --local violations --last 50 -o json").output,
                     f"a record of what {address} was spared")  # fmt: skip
        self.vm.check("systemctl stop green && ip netns del green")

    def forwarded(self, port):
        """What arrives behind the bond of what a container has sent to there: destination -> port -> sources."""
        gateway = json.loads(self.vm.check("ip -j link show near0"))[0]["address"]
        program = f"python3 {GUEST_PROGRAMS}/forward.py"
        return json.loads(self.vm.check(
            f"ip netns exec far {program} watch 8 & sleep 4; "
            f"ip netns exec near {program} send eth0 {gateway} 10.98.1.2 {port} 10.98.2.2 10.98.3.2; wait"))  # fmt: skip

    def test_06_enforce_on_what_a_bond_and_a_vlan_forward(self):
        """It is judged as it enters: where it leaves it is in this host's name, for which there is no rule."""
        if self.vm.run(ROUTER).status != 0:
            self.skipTest("no bonds or VLANs here")
        self.vm.write(f"{GUEST_PROGRAMS}/forward.py", (HERE / "forward.py").read_text())
        wait_for(lambda: self.forwarded(7001) == {}, "the guard stands")
        self.assertEqual({"10.98.2.2": {"7000": ["10.98.2.1"]}, "10.98.3.2": {"7000": ["10.98.3.1"]}}, self.forwarded(7000))
        self.vm.check(NO_ROUTER)

    def test_06_enforce_where_a_container_will_be(self):
        """Container engines mount a network namespace, which the agent's own mount namespace has to show."""
        self.vm.check("ip netns add blue")
        inode = self.vm.check("stat -Lc %i /run/netns/blue").strip()

        def door_stands():
            return self.vm.run(f"ls /sys/fs/bpf/bulkhead/*/links/sk_lookup_{inode}").status == 0

        wait_for(door_stands, "the inbound door stands in it, though nobody is there")
        self.vm.check("ip netns del blue")
        wait_for(lambda: not door_stands(), "it is forgotten")

    def test_06_quarantine(self):
        """On a real driver, virtio-net, whose XDP there is no other test of. Linux before 5.18 does not load the program."""
        wire = json.loads(self.vm.check(f"ip -j route get {FRIEND[4]}"))[0]["dev"]
        held = network.Held(socket.SOCK_STREAM, 4, FRIEND, 8000)
        try:
            wait_for(lambda: held.exchanged > 0, "a session of the friend's")
            self.vm.check("bulkheadctl --local workload quarantine --reason drill")
            wait_for(lambda: held.failure, "the session is cut", 15)
        finally:
            held.stop()
        release = tuple(map(int, self.vm.check("uname -r").split("-")[0].split(".")[:2]))
        if release >= (5, 18):
            wait_for(lambda: f"dropped by XDP on {wire}" in self.vm.run("bulkheadctl --local status").output, "XDP drops")
        for version in (4, 6):
            for port in (8000, 8002):
                self.assertEqual("silence", network.connect(version, FRIEND, port, 4))
            self.assertEqual("silence", network.ask(version, FRIEND, 8000, 4))
            self.assertFalse(network.pings(version, FRIEND, 1))
            self.assertEqual("EPERM", self.calls(FRIEND[version], 7000))
        wait_for(lambda: "quarantine" in self.vm.run("bulkheadctl --local violations --last 50 -o json").output,
                 "a record of what the quarantine refused")  # fmt: skip
        self.vm.check("bulkheadctl --local workload release")
        wait_for(lambda: "XDP" not in self.vm.run("bulkheadctl --local status").output, "XDP is gone")
        self.assert_enforced()

    def test_07_agent_killed(self):
        with self.assert_no_gap("killed"):
            self.vm.check("systemctl kill -s KILL bulkheadd.service")
            time.sleep(1)  # what is being started is not active yet, or what was killed still counts as that
            self.wait_for_agent()
        self.assert_enforced()

    def test_08_reboot(self):
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
        for version, one in ((4, knocker), (6, knocker6)):
            counts = {name: collections.Counter(one.of(peer, version)) for name, peer in (("friend", FRIEND), ("stranger", STRANGER))}
            print(f"        knocked by IPv{version} during the boot: {counts}", flush=True)
            self.assertNotIn("ok", counts["stranger"], f"the stranger came in by IPv{version} while the machine booted")
            self.assertIn("ok", counts["friend"])
        self.assert_enforced()
        print_boot_time(self.vm, "with the agent", "bulkheadd.service network-pre.target")

    def test_09_downgrade(self):
        """Clean where the previous version can read what this one leaves on disk, else refused."""
        if self.version == self.previous_version:
            self.skipTest("no packages of a previous version")
        with self.assert_no_gap("downgrade"):
            done = self.install("previous", "--allow-downgrades")
            self.wait_for_agent()
        if debs.is_older(self.previous_version, readable_since("agent")):
            self.vm.check("dpkg --configure -a", timeout=600)  # apt had unpacked the others; the refusal says so
            self.assert_refused(done, self.previous_version)
        else:
            done.check()
            self.assert_runs(self.previous_version)
        self.assert_enforced()

    def test_10_downgrade_to_what_cannot_read_the_state(self):
        """A package of which nothing is ever unpacked, so that a changed version number is enough."""
        version = self.vm.check("dpkg-query -W -f '${Version}' bulkhead-agent")
        self.vm.check("cd /var/tmp && rm -rf old && mkdir old && dpkg-deb -R "
                      f"{debs.FOLDER}/previous/bulkhead-agent_*.deb old/tree && "
                      "sed -i 's/^Version: .*/Version: 0.0.1/' old/tree/DEBIAN/control && "
                      "dpkg-deb -Znone -b old/tree old/bulkhead-agent_0.0.1.deb", timeout=600)  # fmt: skip
        with self.assert_no_gap("refused downgrade"):
            done = self.vm.run("apt-get install -y --allow-downgrades /var/tmp/old/bulkhead-agent_0.0.1.deb </dev/null", 1800)
            self.wait_for_agent()
        self.assert_refused(done, "0.0.1")
        self.assert_runs(version)
        self.assert_enforced()

    def assert_refused(self, done, version):
        self.assertNotEqual(0, done.status, done)
        self.assertIn(f"bulkhead-agent: version {version} cannot read the state", done.output)
        self.assertIn("BULKHEAD_ALLOW_DOWNGRADE=1", done.output)
        self.assertEqual("installed", self.vm.check("dpkg-query -W -f '${db:Status-Status}' bulkhead-agent"))
        self.assertEqual("", self.vm.check("dpkg --audit"))

    def test_11_purge(self):
        """Of this version: the previous one may have left more."""
        self.install("packages").check()
        self.wait_for_agent()
        self.assert_runs(self.version)
        self.vm.check("apt-get purge -y 'bulkhead-*' </dev/null", timeout=600)
        for version in (4, 6):
            self.assertEqual("ok", network.connect(version, STRANGER, 8002))
            self.assertTrue(network.pings(version, STRANGER))
        self.assertEqual("", debs.left_behind(self.vm))
