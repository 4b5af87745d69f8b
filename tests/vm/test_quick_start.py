# SPDX-License-Identifier: Apache-2.0
"""docs/quick-start.md, typed by a new admin on two hosts: the commands are taken from the page, none is written here."""

import json
import os
import re
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
from network import FRIEND, GUEST, SECOND_GUEST, STRANGER

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs/quick-start.md"
CABLES = {"ctl": "bhvm1", "db": "bhvm2"}
ADDRESSES = {"ctl": GUEST, "db": SECOND_GUEST}
DATABASE = 5432
# Of what a real admin has and the test has not, or the other way round: root's shell; nobody who answers apt's question;
# programs that an emulated processor takes a hundred times as long to prove.
SHELL = "export HOME=/root BULKHEAD_SETUP_PATIENCE=900; cd; "
EMULATED = "[Service]\nTimeoutStartSec=900s\n"
WITHOUT_QUESTIONS = 'APT::Get::Assume-Yes "true";\n'
SECOND_NETWORK = f"""[Match]
Name=eth0

[Network]
Address={SECOND_GUEST[4]}/24
Address={SECOND_GUEST[6]}/64
IPv6AcceptRA=no
LinkLocalAddressing=ipv6
"""


def sections():
    """Heading -> [(host, command, lines that the page says it prints)], of the fenced blocks with prompts."""
    found, commands, fenced, ends = {}, [], False, None
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            commands = found.setdefault(line[3:], [])
        elif line.startswith("```"):
            fenced = not fenced
        elif fenced and ends:
            commands[-1][1] += "\n" + line
            ends = None if line == ends else ends
        elif fenced and (prompt := re.match(r"(\w+)# (.*)", line)):
            commands.append([prompt[1], prompt[2], []])
            here = re.search(r"<<'?(\w+)", prompt[2])
            ends = here and here[1]
        elif fenced:
            commands[-1][2].append(line)
    return found


class QuickStartTest(unittest.TestCase):
    """Its methods run in the order of their names, and are the page's sections."""

    broken = None
    token = None
    typed, seconds = 0, 0.0

    @classmethod
    def setUpClass(cls):
        asked = names.parse(os.environ["BULKHEAD_VM"])
        cache, packages = Path(os.environ["BULKHEAD_VM_CACHE"]), Path(os.environ["BULKHEAD_VM_PACKAGES"])
        folder = tempfile.TemporaryDirectory(prefix="bulkhead-vm-", dir=os.environ["BULKHEAD_VM_RUN"])
        cls.addClassCleanup(folder.cleanup)
        disk = debs.make_disk(Path(folder.name), images.dependencies_of(cache, asked.image), packages)
        network.open_bridge()
        cls.addClassCleanup(network.close_bridge)
        image = images.get(cache, asked.image)
        cls.hosts = {}
        for number, (name, cable) in enumerate(CABLES.items(), 1):
            network.add_cable(cable)
            cls.addClassCleanup(network.remove_cable, cable)
            cls.hosts[name] = machine.Machine(image, Path(folder.name) / name, tap=cable, disks=[disk], number=number,
                                              kernel_options=asked.kernel_options)  # fmt: skip
            cls.addClassCleanup(cls.hosts[name].close)
        for name in CABLES:
            cls.prepare(name)

    @classmethod
    def prepare(cls, name):
        """A host with a name, an address, a mirror, the packages in root's folder, and work of its own."""
        vm = cls.hosts[name]
        vm.wait_for_boot()
        vm.check(f"hostname {name} && echo {name} >/etc/hostname")
        vm.write("/etc/hosts", "127.0.0.1 localhost\n"
                 + "".join(f"{ADDRESSES[host][4]} {host}.example.org {host}\n" for host in CABLES))  # fmt: skip
        if name == "db":
            vm.write("/etc/systemd/network/05-second.network", SECOND_NETWORK)
            vm.check("ip address flush dev eth0 && systemctl restart systemd-networkd")
        network.plug(CABLES[name])
        debs.unpack(vm)
        vm.check(f"cp {debs.FOLDER}/packages/*.deb /root")
        vm.write("/etc/apt/apt.conf.d/90test", WITHOUT_QUESTIONS)
        for unit in ("bulkheadd", "bulkhead-controller"):
            vm.write(f"/etc/systemd/system/{unit}.service.d/emulated.conf", EMULATED)
        for program in ("echo.py", "traffic.py"):
            vm.write(f"/usr/local/lib/bulkhead-test/{program}", (HERE / program).read_text())
        if name == "db":
            vm.check(f"systemd-run --unit=database python3 /usr/local/lib/bulkhead-test/echo.py {DATABASE}")
            wait_for(lambda: cls.knock(STRANGER) == "ok", "the database answers")

    def run(self, result=None):
        if type(self).broken:
            self.skip_because(f"after {type(self).broken}")
        before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > before and not type(self).broken:
            type(self).broken = self._testMethodName
            for name, vm in self.hosts.items():
                print(name, vm.run("journalctl -b -u bulkheadd -u bulkhead-controller --no-pager | tail -n 30").output, flush=True)

    def skip_because(self, reason):
        setattr(self, self._testMethodName, lambda: self.skipTest(reason))

    @staticmethod
    def knock(source):
        return network.connect(4, source, DATABASE, guest=SECOND_GUEST)

    def call(self, host, target):
        address = ADDRESSES[target][4]
        answers = self.hosts[host].check(f"python3 /usr/local/lib/bulkhead-test/traffic.py / {address} {DATABASE}")
        (answer,) = json.loads(answers)[address]
        return answer

    def type_section(self, heading, watched=""):
        """Types what is below the heading; yields (command, output) after each. A command that follows is watched until it
        shows `watched`, while there is traffic, and interrupted."""
        (title,) = [title for title in sections() if title.startswith(heading)]
        for host, command, prints in sections()[title]:
            if "TOKEN" in command:
                self.assertIsNotNone(self.token, "the page has not said yet where a token comes from")
                command = command.replace("TOKEN", self.token)
            began = time.monotonic()
            follows = re.search(r" -f$", command)
            output = self.watch(host, command, watched) if follows else self.enter(host, command)
            seconds = time.monotonic() - began
            type(self).typed += 1
            type(self).seconds += 0 if follows else seconds
            first = command.replace(self.token or "TOKEN", "TOKEN").splitlines()[0]
            print(f"        {host}# {first}  ({seconds:.0f} s)", flush=True)
            for line in prints:
                if line.startswith("  ok  "):
                    self.assertIn(line.strip(), output)
            yield command, output

    def enter(self, host, command):
        done = self.hosts[host].run(SHELL + command, timeout=1800)
        allowed = (0, 6) if "doctor" in command else (0,)  # 6: there are warnings
        self.assertIn(done.status, allowed, done)
        return done.output

    def watch(self, host, command, watched):
        vm, file = self.hosts[host], "/run/watched"
        vm.check(f"{SHELL} {command} >{file} 2>&1 </dev/null & echo $! >{file}.pid")

        def seen():
            self.knock(STRANGER)
            return watched in vm.check(f"cat {file}")

        try:
            wait_for(seen, f"'{command}' shows {watched}", 300)
        finally:
            vm.run(f"kill -INT $(cat {file}.pid)")
        return vm.check(f"cat {file}")

    def test_1_the_controller(self):
        for _, output in self.type_section("1. "):
            printed = re.search(r"echo (\S+) \| sudo bulkhead-setup join ctl\.example\.org:7443$", output, re.M)
            if printed:
                type(self).token = printed[1]
        self.assertIsNotNone(self.token, "the command that enrols the next host")

    def test_2_the_next_host(self):
        outputs = dict(self.type_section("2. ", STRANGER[4]))
        status = next(output for command, output in outputs.items() if "agent status" in command)
        for name in CABLES:
            self.assertRegex(status, rf"(?m)^{name}\b")
        self.assertEqual("ok", self.knock(STRANGER), "nothing is enforced")

    def test_3_a_policy_to_look_at(self):
        dict(self.type_section("3. ", STRANGER[4]))
        self.assertEqual("ok", self.knock(STRANGER), "everything passes in mode test")

    def test_4_in_force(self):
        applied = None
        for command, _ in self.type_section("4. "):
            if "--confirm" in command:
                applied = time.monotonic()
                wait_for(lambda: self.knock(STRANGER) == "refused", "the policy is in force", 110)
                self.assertEqual("ok", self.call("ctl", "db"), "the rule's host")
                self.assertEqual("refused", self.knock(FRIEND))
        print(f"        {self.typed} commands, {self.seconds:.0f} s of waiting for them", flush=True)
        time.sleep(max(0.0, applied + 150 - time.monotonic()))
        self.assertEqual("refused", self.knock(STRANGER), "what was confirmed outlives its deadline")
        self.assertEqual("ok", self.call("ctl", "db"))

    def test_5_off_again(self):
        for command, _ in self.type_section("Off again"):
            expected = "refused" if "stop" in command else "ok"
            self.assertEqual(expected, self.knock(STRANGER), command)
        self.assertEqual("", debs.left_behind(self.hosts["db"]))
