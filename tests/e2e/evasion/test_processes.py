# SPDX-License-Identifier: Apache-2.0
"""Rules that ask for the process: sockets that change hands, and processes that pretend to be others."""

import errno
import os
import shutil
import socket
import struct
import threading
import time

from harness import namespaces
from harness.lab import PYTHON

from . import calls, packets
from .case import EvasionTest, hear
from .test_sockets import IPPROTO_MPTCP, TCP, UDP, connect

BY_UNIT, BY_EXE, BY_USER, NOT_BATCH = 7000, 7001, 7002, 7003
SECOND = "10.77.0.51"  # an address that the peer has besides
CLONE_NEWUSER, CLONE_NEWNET, PR_SET_DUMPABLE = 0x10000000, 0x40000000, 4

CONNECT = """
import socket, sys
opened = socket.socket(fileno=int(sys.argv[3])) if len(sys.argv) > 3 else socket.socket()
opened.settimeout(2)
opened.connect((sys.argv[1], int(sys.argv[2])))
"""


def move(cgroup):
    (cgroup / "cgroup.procs").write_text("0")


# Executes a file of its own, opened through a mount by which it is called like the allowed program. "overlay": the file
# is root's, shown by a file system of the user's own, and he has removed it there.
IMPOSTOR = r"""
import os, socket, subprocess, sys
trusted, evil, how, ip, port = sys.argv[1:]
here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
mount, remove = f"mount --bind {evil} {trusted}", ""
if how == "overlay":
    remove = f"{evil}/merged/{os.path.basename(os.path.realpath(sys.executable))}"
    mount = (f"cd {evil}; mkdir -p upper work merged; mount -t overlay -o "
             f"lowerdir=/usr/bin,upperdir=upper,workdir=work,userxattr o merged; mount --bind {remove} {trusted}")
inner = ("import os, socket, sys, time; s = socket.socket(fileno=int(sys.argv[1])); fd = os.open(sys.argv[2], os.O_RDONLY);"
         "sys.argv[3] and os.unlink(sys.argv[3]); socket.send_fds(s, [b'x'], [fd]); time.sleep(8)")
subprocess.Popen(["unshare", "-Urm", "sh", "-ec", f'{mount}; exec {sys.executable} -I -c "$1" {there.fileno()} {trusted} "$2"',
                  "sh", inner, remove], pass_fds=[there.fileno()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
fd = socket.recv_fds(here, 1, 1)[1][0]
if how == "deleted":
    os.chown(evil, 65534, 65534)
    os.unlink(evil)
os.execve(fd, [trusted, "-I", "-c", "import socket, sys, time; time.sleep(2.5); socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)",
               ip, port], os.environ)
"""


class Processes(EvasionTest):
    POLICY = """
version: 1
segment: attacker
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: by-unit, to: {cidr: PEER4/32}, service: [tcp/7000, udp/7000], process: {unit: worker.service}}
  - {id: by-exe, to: {cidr: PEER4/32}, service: [tcp/7001], process: {exe: TRUSTED}}
  - {id: by-user, to: {cidr: PEER4/32}, service: [tcp/7002], process: {user: nobody}}
  - {id: ping, to: {cidr: PEER4/32}, service: [icmp/8], process: {unit: worker.service}}
  - {id: not-batch, to: {cidr: [PEER4/32, 10.77.0.51/32]}, service: [tcp/7003]}
deny:
  - {id: batch, to: {cidr: [10.77.0.51/32]}, service: [tcp/7003], process: {unit: batch.service}}
"""

    @classmethod
    def guard(cls, host, policy, role, **options):
        for unit in ("worker.service", "batch.service", "session.scope"):
            (host.cgroup / unit).mkdir(exist_ok=True)
        folder = host.dir / "bin"
        folder.mkdir()
        cls.trusted = folder / "trusted"
        shutil.copy(os.path.realpath(PYTHON), cls.trusted)
        for open_to_all in (folder.parent, folder, host.lab.dir, host.lab.dir.parent):
            open_to_all.chmod(0o755)
        for port in (BY_EXE, BY_USER):
            cls.addClassCleanup(hear(cls.peer, TCP, port).close)
        return super().guard(host, policy.replace("TRUSTED", str(cls.trusted)), role, **options)

    def check(self, port, unit="session.scope", protocol="tcp", ip=None):
        record = self.recorded(protocol=protocol, direction="outbound", dst__ip=ip or self.peer.ip4, dst__port=port,
                               process__unit=unit)
        self.nothing_arrived(target=ip or self.peer.ip4, port=port)
        return record

    def check_program(self, *argv, port=BY_EXE, **options):
        """The program, which connects to argv's last two, is refused."""
        self.wire.clear()
        result = self.attacker.run(*argv, **options)
        self.assertIn("PermissionError", result.stderr, result)
        return self.check(port)

    def connect_by(self, program):
        return [program, "-I", "-c", CONNECT, self.peer.ip4, BY_EXE]

    def test_a_socket_that_is_passed_on(self):
        """Who connects or sends is asked for, not who made the socket: SCM_RIGHTS from an allowed unit to another."""
        path = str(self.attacker.dir / "passed")
        for kind, protocol in ((TCP, "tcp"), (UDP, "udp")):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
                receiver.bind(path)

                def give():
                    with socket.socket(socket.AF_INET, kind) as made, \
                            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                        sender.connect(path)
                        socket.send_fds(sender, [b"x"], [made.fileno()])

                def take():
                    _, fds, _, _ = socket.recv_fds(receiver, 1, 1)
                    with socket.socket(fileno=fds[0]) as opened:
                        opened.settimeout(2)
                        if kind == UDP:
                            opened.sendto(self.mark, (self.peer.ip4, BY_UNIT))
                        else:
                            opened.connect((self.peer.ip4, BY_UNIT))
                self.attacker.call(give, unit="worker.service")
                self.permitted(take, unit="worker.service")
                self.wire.wait(port=BY_UNIT)
                self.wire.clear()
                self.attacker.call(give, unit="worker.service")
                self.refused(take)
                self.check(BY_UNIT, protocol=protocol)
            os.unlink(path)

    def test_a_passed_socket_whose_conversation_has_begun(self):
        """Each datagram of an unconnected socket is asked for anew while rules look at processes."""
        path = str(self.attacker.dir / "passed")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            self.addCleanup(os.unlink, path)

            def give():
                with socket.socket(socket.AF_INET, UDP) as made, \
                        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    made.sendto(b"begin", (self.peer.ip4, BY_UNIT))
                    sender.connect(path)
                    socket.send_fds(sender, [b"x"], [made.fileno()])

            def take():
                _, fds, _, _ = socket.recv_fds(receiver, 1, 1)
                with socket.socket(fileno=fds[0]) as opened:
                    opened.sendto(self.mark, (self.peer.ip4, BY_UNIT))
            self.attacker.call(give, unit="worker.service")
            self.wire.wait(content=b"begin")
            self.wire.clear()
            self.refused(take)
            self.check(BY_UNIT, protocol="udp")

    def test_an_exchange_that_another_process_began(self):
        """Who pings with the identifier of a process that may is still not that process."""
        def ping():
            with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as opened:
                opened.sendto(packets.icmp(8, self.mark, rest=struct.pack("!HH", 77, 1)), (self.peer.ip4, 0))
        self.permitted(ping, unit="worker.service")
        self.wire.wait(content=self.mark)
        self.next_attempt()
        self.attempt(ping)
        self.recorded(direction="outbound", protocol="icmp", icmp__type=8)
        self.nothing_arrived()
        self.permitted(ping, unit="worker.service")
        self.wire.wait(content=self.mark)

    def test_moved_to_another_cgroup(self):
        """Where the process is when it connects counts, not where it was when it made the socket, nor the reverse."""
        def attack(first, before, target):
            move(self.attacker.cgroup / first)
            opened = socket.socket(socket.AF_INET, TCP) if before else None
            move(target)
            with opened or socket.socket(socket.AF_INET, TCP) as opened:
                opened.settimeout(2)
                opened.connect((self.peer.ip4, BY_UNIT))
        worker, session = (self.attacker.cgroup / name for name in ("worker.service", "session.scope"))
        for before in (True, False):
            self.permitted(attack, "session.scope", before, worker)
            self.wire.wait(port=BY_UNIT)
            self.wire.clear()
            self.refused(attack, "worker.service", before, session)
            self.check(BY_UNIT)

    def test_moved_out_of_the_enforced_cgroup_with_a_socket(self):
        """A socket stays in the cgroup in which it was made."""
        def attack():
            with socket.socket(socket.AF_INET, TCP) as opened:
                move(self.lab.daemons)
                opened.settimeout(2)
                opened.connect((self.peer.ip4, BY_UNIT))
        self.refused(attack)
        self.recorded(protocol="tcp", direction="outbound", dst__port=BY_UNIT)
        self.nothing_arrived(port=BY_UNIT)

    def test_a_folder_named_like_a_unit(self):
        """Whoever was given a part of the cgroup tree names folders in it as he likes (Delegate=)."""
        mine = self.attacker.cgroup / "session.scope"
        os.chown(mine, 65534, 65534)
        os.chown(mine / "cgroup.procs", 65534, 65534)
        self.addCleanup(os.chown, mine, 0, 0)
        self.addCleanup(os.chown, mine / "cgroup.procs", 0, 0)

        def attack():
            named = mine / "worker.service"
            named.mkdir(exist_ok=True)
            (named / "cgroup.procs").write_text("0")
            time.sleep(0.7)  # the agent looks for new units
            connect(self.peer.ip4, BY_UNIT)
        self.refused(attack, user="nobody")
        self.recorded(protocol="tcp", direction="outbound", dst__port=BY_UNIT)
        self.nothing_arrived(port=BY_UNIT)

    def test_a_child_after_exec(self):
        """The allowed program makes the socket, forks, and the child runs another program with it."""
        execute = ("import os, socket, sys; s = socket.socket(); s.set_inheritable(True); pid = os.fork(); "
                   "pid or os.execv(sys.argv[1], [*sys.argv[1:], str(s.fileno())]); os.waitpid(pid, 0)")
        self.permitted_program(*self.connect_by(self.trusted))
        self.check_program(self.trusted, "-I", "-c", execute, PYTHON, "-I", "-c", CONNECT, self.peer.ip4, BY_EXE)

    def permitted_program(self, *argv, **options):
        self.attacker.run(*argv, **options).check()
        self.wire.wait(port=BY_EXE)

    def test_another_file_by_the_name_of_an_allowed_program(self):
        """The file counts: a copy, a link to another file, a file in memory, argv[0] and comm are not the program."""
        folder = self.attacker.dir / "elsewhere"
        folder.mkdir()
        shutil.copy(self.trusted, folder / "trusted")
        (folder / "run").mkdir()
        os.symlink(PYTHON, folder / "run" / "trusted")
        self.check_program(*self.connect_by(folder / "trusted"))
        self.check_program(*self.connect_by(folder / "run" / "trusted"))
        in_memory = ("import os, sys; fd = os.memfd_create('trusted'); os.write(fd, open(sys.argv[1], 'rb').read()); "
                     "os.execve(fd, [sys.argv[2], *sys.argv[2:]][1:], os.environ)")
        self.check_program(PYTHON, "-I", "-c", in_memory, self.trusted, *map(str, self.connect_by(self.trusted)))

    def test_the_allowed_program_mounted_over(self):
        """An ordinary user mounts his own file over the allowed program, in a mount namespace of his own."""
        evil = self.attacker.dir / "evil"
        shutil.copy(os.path.realpath(PYTHON), evil)
        self.addCleanup(evil.unlink)
        script = f"mount --bind {evil} {self.trusted}; {self.trusted} -I -c 'import time; time.sleep(1)'; " \
                 f"exec {self.trusted} -I -c \"$1\" {self.peer.ip4} {BY_EXE}"
        probe = self.attacker.run("unshare", "-Urm", "true", user="nobody")
        if probe.code != 0:
            self.skipTest(f"no user namespaces for users here: {probe.stderr.strip()}")
        self.check_program("unshare", "-Urm", "sh", "-c", script, "sh", CONNECT, user="nobody")

    def test_a_file_that_is_called_so_in_another_mount_namespace(self):
        """Its descriptor is passed out of there and executed here, with the name that the mount gave it."""
        evil = self.attacker.dir / "evil2"
        shutil.copy(os.path.realpath(PYTHON), evil)
        self.addCleanup(lambda: evil.unlink(missing_ok=True))
        probe = self.attacker.run("unshare", "-Urm", "true", user="nobody")
        if probe.code != 0:
            self.skipTest(f"no user namespaces for users here: {probe.stderr.strip()}")
        for how in ("", "deleted"):
            with self.subTest(how=how):
                self.check_program(PYTHON, "-I", "-c", IMPOSTOR, self.trusted, evil, how, self.peer.ip4, BY_EXE,
                                   user="nobody" if not how else None)

    def test_a_file_of_root_that_is_called_so_by_an_overlay(self):
        """What a user lays over /usr/bin in his own mount namespace is his folder, and the files in it are root's."""
        mine = self.attacker.dir / "overlay"
        mine.mkdir()
        os.chown(mine, 65534, 65534)
        probe = self.attacker.run("unshare", "-Urm", "sh", "-ec", f"cd {mine}; mkdir u w m; mount -t overlay -o "
                                  "lowerdir=/usr/bin,upperdir=u,workdir=w,userxattr o m", user="nobody")
        if probe.code != 0:
            self.skipTest(f"no overlays in user namespaces here: {probe.stderr.strip()}")
        self.check_program(PYTHON, "-I", "-c", IMPOSTOR, self.trusted, mine, "overlay", self.peer.ip4, BY_EXE,
                           user="nobody")

    def test_a_user_of_a_user_namespace(self):
        """Inside a namespace of users of his own anybody may be nobody, or root."""
        def attack(uid):
            calls.checked(calls.libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))  # or /proc/self is root's since setuid(2)
            calls.checked(calls.libc.unshare(CLONE_NEWUSER))
            with open("/proc/self/setgroups", "w", encoding="ascii") as file:
                file.write("deny")
            with open("/proc/self/uid_map", "w", encoding="ascii") as file:
                file.write(f"{uid} 2 1")
            os.setuid(uid)
            assert os.getuid() == uid
            connect(self.peer.ip4, BY_USER)
        self.permitted(connect, self.peer.ip4, BY_USER, user="nobody")
        self.wire.wait(port=BY_USER)
        self.wire.clear()
        for uid in (65534, 0):
            self.refused(attack, uid, user="bin")
            self.assertEqual(self.check(BY_USER)["process"]["user"], "bin")

    def test_a_network_namespace_of_its_own(self):
        """The doors follow the cgroup, not the network namespace."""
        def attack():
            calls.checked(calls.libc.unshare(CLONE_NEWNET))
            with socket.socket(socket.AF_INET, UDP) as opened:
                opened.sendto(self.mark, (self.peer.ip4, BY_UNIT))
        self.refused(attack)
        self.check(BY_UNIT, protocol="udp")

    def test_an_mptcp_subflow_that_the_kernel_opens(self):
        """A subflow is connected by a thread of the kernel; the rule is about the unit that owns the connection."""
        namespaces.batch(self.peer.netns, [f"addr add {SECOND}/24 dev eth0"])
        self.addCleanup(namespaces.batch, self.peer.netns, [f"addr del {SECOND}/24 dev eth0"])
        for host in (self.peer, self.attacker):
            host.run("ip", "mptcp", "limits", "set", "add_addr_accepted", "4", "subflows", "4", daemon=True).check()
        self.peer.run("ip", "mptcp", "endpoint", "add", SECOND, "dev", "eth0", "id", "9", "signal", daemon=True).check()
        self.addCleanup(lambda: self.peer.run("ip", "mptcp", "endpoint", "flush", daemon=True))
        self.hear(self.peer, TCP, NOT_BATCH, self.peer.ip4, IPPROTO_MPTCP)

        def attack():
            with socket.socket(socket.AF_INET, TCP, IPPROTO_MPTCP) as opened:
                opened.settimeout(2)
                opened.connect((self.peer.ip4, NOT_BATCH))
                opened.send(b"hello")
                time.sleep(0.3)
        self.permitted(attack)
        self.wire.wait(target=SECOND, port=NOT_BATCH)
        self.wire.clear()
        self.permitted(attack, unit="batch.service")
        self.check(NOT_BATCH, unit="batch.service", ip=SECOND)


def bound(port):
    opened = socket.socket(socket.AF_INET, UDP)
    opened.bind(("", port))
    opened.settimeout(2)
    return opened


class TakenPorts(EvasionTest):
    """UDP: whoever takes the port of a process that has ended takes none of its conversations over."""

    POLICY = """
version: 1
segment: attacker
selector: {role: attacker}
mode: enforce
inbound: deny
outbound: deny
allow:
  - {id: asked, from: {cidr: PEER4/32}, service: [udp/7300], process: {unit: worker.service}}
  - {id: asks, to: {cidr: PEER4/32}, service: [udp/7301], process: {unit: worker.service}}
"""

    @classmethod
    def guard(cls, host, policy, role, **options):
        for unit in ("worker.service", "session.scope"):
            (host.cgroup / unit).mkdir(exist_ok=True)
        return super().guard(host, policy, role, **options)

    def worker(self, function):
        self.permitted(function, unit="worker.service")

    def test_who_did_not_hear_does_not_answer(self):
        caller = self.hear(self.peer, UDP, self.port, address=self.peer.ip4)

        def answer():
            with bound(7300) as server:
                _, who = server.recvfrom(100)
                server.sendto(b"answer", who)

        def pretend():
            with bound(7300) as opened:
                opened.sendto(self.mark, (self.peer.ip4, self.port))

        for _ in range(2):  # the second worker answers in the conversation of the first
            working = threading.Thread(target=self.worker, args=(answer,))
            working.start()
            while working.is_alive():
                caller.sendto(b"question", (self.attacker.ip4, 7300))
                working.join(0.1)
            self.assertEqual(caller.recv(100), b"answer")
        self.next_attempt()
        self.refused(pretend, user="nobody")
        self.recorded(direction="outbound", dst__port=self.port, process__unit="session.scope")
        self.assertEqual(self.wire.matching(content=self.mark), [])

    def test_who_did_not_ask_hears_no_reply(self):
        service = self.hear(self.peer, UDP, 7301, address=self.peer.ip4)

        def ask():
            with bound(4000) as opened:
                opened.sendto(b"question", (self.peer.ip4, 7301))
                return opened.recv(100) == b"reply"

        def listen_in():
            with bound(4000) as opened:
                try:
                    opened.recv(100)
                except TimeoutError:
                    raise OSError(errno.ETIMEDOUT, "nothing to hear") from None

        def reply(function, **options):
            heard = []

            def run():
                heard.append(self.attempt(function, **options))

            asking = threading.Thread(target=run)
            asking.start()
            while asking.is_alive():
                service.sendto(b"reply", (self.attacker.ip4, 4000))
                asking.join(0.1)
            return heard[0]

        self.assertEqual(reply(ask, unit="worker.service"), "")
        self.assertEqual(service.recv(100), b"question")
        self.next_attempt()
        self.assertEqual(reply(listen_in), "ETIMEDOUT")
        self.recorded(direction="inbound", dst__port=4000)
