# SPDX-License-Identifier: Apache-2.0
"""Process conditions at both ends, with real programs: who speaks and who listens decides."""

import hashlib
import os
import shutil
import time

from harness import cgroups
from harness.bulkhead import deploy
from harness.case import LabTest
from harness.lab import PYTHON, wait_until

# Connects once a line, and says how that went.
TOOL = """
import socket, sys
for _ in sys.stdin:
    try:
        socket.create_connection((sys.argv[1], 7005), 2).close()
        print("ok", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""

# Says what the server echoes.
SESSION = """
import socket, sys
session = socket.create_connection((sys.argv[1], 7000), 2)
try:
    for line in sys.stdin:
        session.sendall(line.encode())
        print(session.recv(100).decode().strip(), flush=True)
except OSError as error:
    print(error.strerror, flush=True)
"""

# Listens; at a line of input has a program inherit the socket, in another cgroup, and ends at the next.
BEQUEATH = """
import os, socket, sys
port, procs, *program = sys.argv[1:]
listener = socket.create_server(("", int(port)))
print("listens", flush=True)
sys.stdin.readline()
if os.fork() == 0:
    with open(procs, "w") as file:
        file.write("0")
    listener.set_inheritable(True)
    os.execv(program[0], [*program, str(listener.fileno())])
sys.stdin.readline()
"""

INHERIT = """
import socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
print("inherited", flush=True)
while True:
    connection = listener.accept()[0]
    connection.sendall(connection.recv(100))
    connection.close()
"""

POLICY = """
version: 1
segment: app
selector: {role: app}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: backup, to: any, service: [tcp/7000], process: {unit: backup.service}}
  - {id: curl, to: any, service: [tcp/7001, udp/7001], process: {exe: /usr/bin/curl}}
  - {id: by-user, to: any, service: [tcp/7002], process: {user: nobody}}
  - {id: both, to: any, service: [tcp/7003], process: {unit: backup.service, user: nobody}}
  - {id: in-unit, from: any, service: [tcp/7100-7101, tcp/7105, udp/7100], process: {unit: echo.service}}
  - {id: in-exe, from: any, service: [tcp/7102], process: {exe: /usr/bin/ncat}}
  - {id: out-timer, to: any, service: [tcp/7000], process: {unit: timer.service}}
  - {id: in-anew, from: any, service: [tcp/7108, udp/7108], process: {unit: anew.service}}
  - {id: in-program, from: any, service: [tcp/7106], process: {exe: FOLDER/server}}
  - {id: in-bequest, from: any, service: [tcp/7107], process: {unit: first.service}}
  - {id: out-any, to: any, service: [tcp/7004]}
  - {id: tools, to: any, service: [tcp/7005], process: {exe: FOLDER/*/tool}}
deny:
  - {id: no-backup, to: any, service: [tcp/7004], process: {unit: backup.service}}
"""


class ProcessConditions(LabTest):
    @classmethod
    def arrange(cls):
        cls.controller, agents = deploy(cls.lab, {"app": {"role": "app"}})
        cls.agent, cls.app = agents["app"], agents["app"].host
        cls.guest = cls.lab.add_host("guest", 50)
        for port in range(7000, 7006):
            cls.guest.serve("tcp", port)
        cls.app.serve("tcp", 7100, unit="echo.service")
        cls.app.serve("udp", 7100, unit="echo.service")
        cls.app.serve("tcp", 7101, cls.app.ip4, unit="echo.service")
        cls.app.serve("tcp", 7101, cls.app.ip6, unit="other.service")
        cls.app.serve("tcp", 7103, unit="echo.service")
        cls.app.start("/usr/bin/ncat", "-l", "-k", "-e", "/bin/cat", "7102", unit="cat.service")
        (cls.app.cgroup / "backup.service").mkdir()
        wait_until(lambda: cls.app.listens(7102), 5, "ncat listens")
        cls.controller.apply(POLICY.replace("FOLDER", str(cls.app.dir)))

    def test_outbound_by_unit(self):
        self.assertPasses(self.app.probe("tcp", self.guest.ip4, 7000, unit="backup.service"))
        self.assertRefused(self.app.probe("tcp", self.guest.ip4, 7000, unit="other.service"), "EPERM")
        self.await_record(self.agent.violations, dst__port=7000, process__unit="other.service")

    def test_outbound_by_a_unit_below_the_unit(self):
        self.assertPasses(self.app.probe("tcp", self.guest.ip4, 7000, unit="backup.service/worker"))

    def test_outbound_by_unit_that_starts_after_the_policy(self):
        cgroup = self.app.cgroup / "backup.service"
        wait_until(lambda: not (cgroup / "cgroup.procs").read_text(), 5, "the unit is empty")
        for child in cgroup.glob("*/"):
            if child.is_dir():
                child.rmdir()
        cgroup.rmdir()
        self.assertRefused(self.app.probe("tcp", self.guest.ip4, 7000, unit="other.service"), "EPERM")
        # systemd makes the unit's cgroup anew at each start
        wait_until(lambda: self.app.probe("tcp", self.guest.ip4, 7000, unit="backup.service")["ok"], 5,
                   "the restarted unit is recognised", 0.1)

    def test_a_unit_that_is_started_anew_connects_at_once(self):
        passed = 0
        for _ in range(10):
            passed += self.app.probe("tcp", self.guest.ip4, 7000, unit="timer.service")["ok"]
            cgroups.remove(self.app.cgroup / "timer.service")
        self.assertGreaterEqual(passed, 8)  # the agent looks at something else now and then

    def test_a_unit_that_is_started_anew_is_reached_at_once(self):
        passed = 0
        for kind in ("tcp", "udp") * 5:
            server = self.app.serve(kind, 7108, unit="anew.service")
            passed += self.guest.probe(kind, self.app.ip4, 7108)["ok"]
            server.kill()
            server.wait(5)
            cgroups.remove(self.app.cgroup / "anew.service")
        self.assertGreaterEqual(passed, 8)

    def test_outbound_by_executable(self):
        # The echo server speaks no HTTP: that the connection stands is what counts.
        result = self.app.run("/usr/bin/curl", "-s", "--max-time", "1", "-o", "/dev/null", "-w", "%{num_connects}",
                              f"http://{self.guest.ip4}:7001/")
        self.assertEqual(result.stdout, "1", result)
        self.assertRefused(self.app.probe("tcp", self.guest.ip4, 7001), "EPERM")

    def test_a_program_whose_folder_is_mounted_over_while_it_runs(self):
        folder = self.app.dir / "mounted"
        folder.mkdir()
        tool = self.app.pipe("unshare", "-m", "sh", "-ec", f"mount -t tmpfs t {folder}; cp {os.path.realpath(PYTHON)} "
                             f"{folder}/tool; exec {folder}/tool -I -c \"$1\" {self.guest.ip4}", "sh", TOOL)
        self.stays_allowed(tool, lambda: self.app.run("nsenter", f"--mount=/proc/{tool.pid}/ns/mnt", "mount", "-t",
                                                      "tmpfs", "over", folder, daemon=True).check())

    def test_a_program_of_a_user_that_is_removed_while_it_runs(self):
        folder = self.app.dir / "release"
        folder.mkdir()
        shutil.copy(os.path.realpath(PYTHON), folder / "tool")
        os.chown(folder / "tool", 65534, 65534)
        tool = self.app.pipe(folder / "tool", "-I", "-c", TOOL, self.guest.ip4)
        self.stays_allowed(tool, lambda: shutil.rmtree(folder))

    def test_a_program_in_a_user_namespace_that_is_upgraded_while_it_runs(self):
        """As that of a service with PrivateUsers=."""
        folder = self.app.dir / "private"
        folder.mkdir()
        for name in ("tool", "new"):
            shutil.copy(os.path.realpath(PYTHON), folder / name)
        tool = self.app.pipe("unshare", "-Urm", folder / "tool", "-I", "-c", TOOL, self.guest.ip4)
        self.stays_allowed(tool, lambda: (folder / "new").rename(folder / "tool"))

    def stays_allowed(self, tool, change):
        def connect():
            tool.stdin.write("\n")
            tool.stdin.flush()
            return tool.stdout.readline().strip()
        wait_until(lambda: connect() == "ok", 5, "the program is recognised", 0.1)
        change()
        time.sleep(2.5)  # the agent has looked again
        self.assertEqual(connect(), "ok")

    def test_outbound_by_user(self):
        self.assertPasses(self.app.probe("tcp", self.guest.ip6, 7002, user="nobody"))
        self.assertRefused(self.app.probe("tcp", self.guest.ip6, 7002), "EPERM")

    def test_several_keys_must_all_hold(self):
        self.assertPasses(self.app.probe("tcp", self.guest.ip4, 7003, user="nobody", unit="backup.service"))
        self.assertRefused(self.app.probe("tcp", self.guest.ip4, 7003, user="nobody"), "EPERM")
        self.assertRefused(self.app.probe("tcp", self.guest.ip4, 7003, unit="backup.service"), "EPERM")

    def test_deny_for_one_unit(self):
        self.assertPasses(self.app.probe("tcp", self.guest.ip4, 7004, unit="other.service"))
        self.assertRefused(self.app.probe("tcp", self.guest.ip4, 7004, unit="backup.service"), "EPERM")

    def test_inbound_by_unit_of_the_listener(self):
        for address in (self.app.ip4, self.app.ip6):
            self.assertPasses(self.guest.probe("tcp", address, 7100))
            self.assertPasses(self.guest.probe("udp", address, 7100))

    def test_two_units_on_one_port_are_told_apart(self):
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7101))
        self.assertRefused(self.guest.probe("tcp", self.app.ip6, 7101), "ECONNREFUSED")

    def test_inbound_by_executable_of_the_listener(self):
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7102))
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7103), "ECONNREFUSED")

    def test_a_port_that_changes_hands_is_judged_anew(self):
        for unit, passes in (("echo.service", True), ("other.service", False), ("echo.service", True)):
            server = self.app.serve("tcp", 7105, unit=unit)
            outcome = self.guest.probe("tcp", self.app.ip4, 7105)
            self.assertPasses(outcome) if passes else self.assertRefused(outcome, "ECONNREFUSED")
            server.kill()
            server.wait(5)

    def bequeather(self, port, program, heir_unit):
        (self.app.cgroup / heir_unit).mkdir(exist_ok=True)
        process = self.app.pipe(program, "-I", "-c", BEQUEATH, port, self.app.cgroup / heir_unit / "cgroup.procs",
                                program, "-I", "-c", INHERIT, unit="first.service")
        self.assertEqual(process.stdout.readline(), "listens\n")
        return process

    @staticmethod
    def step(process):
        process.stdin.write("\n")
        process.stdin.flush()

    def test_a_new_program_inherits_the_port_of_the_old_one(self):
        """As in an upgrade of nginx without a restart (USR2, QUIT)."""
        program = self.app.dir / "server"
        shutil.copy(os.path.realpath(PYTHON), program)
        old = self.bequeather(7106, program, "first.service")
        wait_until(lambda: self.app.run(program, "-V").code == 0 and self.connects(7106), 5, "the program is known")
        shutil.copy(program, program.with_name("server.new"))
        program.with_name("server.new").rename(program)
        time.sleep(1.5)  # the agent has looked
        self.step(old)
        self.assertEqual(old.stdout.readline(), "inherited\n")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7106))
        self.step(old)
        old.wait(5)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7106))

    def test_an_heir_has_no_rights_of_who_ended(self):
        old = self.bequeather(7107, PYTHON, "second.service")
        wait_until(lambda: self.connects(7107), 5, "the unit is known")
        self.step(old)
        self.assertEqual(old.stdout.readline(), "inherited\n")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7107))
        self.step(old)
        old.wait(5)
        wait_until(lambda: not self.connects(7107), 3, "the heir is judged by its own unit", 0.1)
        self.await_record(self.agent.violations, dst__port=7107, process__unit="second.service")

    def connects(self, port):
        return self.guest.run("/usr/bin/ncat", "-z", "-w", "1", self.app.ip4, port).code == 0

    def test_records_name_the_process(self):
        for _ in range(3):  # it ends at once, and on a busy machine before anybody has read its command line
            process = self.await_violation()["process"]
            if "cmdline" in process:
                break
        self.assertEqual(process["unit"], "named.service")
        self.assertEqual(process["user"], "nobody")
        self.assertIn("/python3", process["exe"])
        self.assertIn("probe.py", process["cmdline"])
        self.assertTrue(process["cgroup"].endswith("/app/named.service"), process)

    def await_violation(self):
        self.app.probe("tcp", self.guest.ip4, 7000, unit="named.service", user="nobody")
        return self.await_record(self.controller.violations, dst__port=7000, process__unit="named.service")


class LargePrograms(LabTest):
    """Somebody lays a hundred gigabytes where a rule with a digest looks. (Holes: they take time to read, and no disk.)"""

    @classmethod
    def arrange(cls):
        cls.controller, agents = deploy(cls.lab, {"app": {"role": "app"}})
        cls.agent, cls.app = agents["app"], agents["app"].host
        cls.guest = cls.lab.add_host("guest", 50)
        cls.guest.serve("tcp", 7000)
        cls.folder = cls.app.dir / "home"
        cls.folder.mkdir()
        for name, owner in (("root", 0), ("daemon", 1)):
            cls.program(name, owner, "/usr/bin/curl")
        digest = hashlib.sha256((cls.folder / "root").read_bytes()).hexdigest()
        cls.policy = f"""
version: 1
segment: app
selector: {{role: app}}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {{id: tools, to: any, service: [tcp/7000], process: {{exe: {cls.folder}/*, sha256: {digest}}}}}
"""

    @classmethod
    def program(cls, name, owner, original=None):
        path = cls.folder / name
        if original:
            shutil.copy(original, path)
        else:
            path.touch()
            os.truncate(path, 1 << 30)
        path.chmod(0o755)
        os.chown(path, owner, owner)

    def connects(self, name):
        return self.app.run(self.folder / name, "-s", "--max-time", "1", "-o", "/dev/null", "-w", "%{num_connects}",
                            f"http://{self.guest.ip4}:7000/").stdout == "1"

    def test_own_sessions_are_not_cut_by_a_restart(self):
        """Holes make a program large, too."""
        tool = self.folder / "root-tool"
        shutil.copy(os.path.realpath(PYTHON), tool)
        os.truncate(tool, 400 << 20)
        digest = hashlib.sha256(tool.read_bytes()).hexdigest()
        self.controller.apply(self.policy.replace("allow:", f"""sessions: cut
allow:
  - {{id: large, to: any, service: [tcp/7000], process: {{exe: {tool}, sha256: {digest}}}}}"""), name="large.yaml")
        session = self.app.pipe(tool, "-I", "-c", SESSION, self.guest.ip4)
        for _ in range(3):
            self.assertEqual(self.says(session), "hello")
            self.agent.stop()
            self.agent.start()
        time.sleep(1.5)
        self.assertEqual(self.says(session), "hello")
        tool.unlink()

    @staticmethod
    def says(session):
        session.stdin.write("hello\n")
        session.stdin.flush()
        return session.stdout.readline().strip()

    def test_hold_nobody_up(self):
        self.controller.apply(self.policy)
        self.assertTrue(self.connects("root"))
        for number in range(100):
            self.program(f"nobody-{number}", 65534)
        self.agent.stop()
        self.agent.detach().check()
        self.agent.start()
        self.assertTrue(self.connects("root"))
        wait_until(lambda: self.connects("daemon"), 20, "the program of another user is known")
        self.assertIn("programs are not read yet", str(self.agent.status()["unmatched"]))
        self.controller.apply(self.policy.replace("tcp/7000", "tcp/7001"), name="other.yaml")
        self.assertFalse(self.connects("root"))
        self.controller.apply(self.policy, name="again.yaml")
        self.assertTrue(self.connects("root"))
