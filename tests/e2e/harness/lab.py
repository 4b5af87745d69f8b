# SPDX-License-Identifier: Apache-2.0
"""Lab and Host: a private network of namespaces with a cgroup each, taken down whatever happens."""

import atexit
import fcntl
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import cgroups, fork, namespaces

PROBE = Path(__file__).with_name("probe.py")
PYTHON = "/usr/bin/python3"  # one that every user can run
RUN = Path("/run/bulkhead-e2e")
BPFFS = Path("/sys/fs/bpf")


def wait_until(condition, timeout: float = 5.0, what: str = "", interval: float = 0.02):
    """The first true value of `condition`; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(interval)


def mount_bpffs() -> None:
    with open("/proc/self/mounts", encoding="utf-8") as mounts:
        if not any(line.split()[1:3] == [str(BPFFS), "bpf"] for line in mounts):
            subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)


open_labs: list["Lab"] = []  # those of this process


class Result:
    """What a command did and how long it took."""

    def __init__(self, argv, code, stdout, stderr, seconds):
        self.argv, self.code, self.stdout, self.stderr, self.seconds = argv, code, stdout, stderr, seconds

    def __repr__(self):
        return f"{' '.join(map(str, self.argv))}\n-> {self.code} in {self.seconds:.3f} s\n{self.stdout}{self.stderr}"

    def check(self):
        if self.code != 0:
            raise AssertionError(repr(self))
        return self


class Probe:
    """A connection that is held open; see `probe.py hold`."""

    def __init__(self, process):
        self.process = process
        self.opened = self._read()

    def _read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"ok": False, "error": "probe ended"}

    def exchange(self, text="hello"):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self._read()

    def close(self):
        self.process.stdin.close()
        self.process.wait(5)


class Host:
    """A network namespace, addresses on the lab's bridge, and a cgroup whose children are its units."""

    def __init__(self, lab, name, number):
        self.lab, self.name, self.number = lab, name, number
        self.netns = f"{lab.prefix}-{name}"
        self.ip4, self.ip6 = f"10.77.0.{number}", f"fd77::{number}"
        self.cgroup = cgroups.create(lab.cgroup / name)
        self.dir = lab.dir / name
        self.dir.mkdir()
        namespaces.add(self.netns)
        namespaces.plug(lab.fabric, self.netns, f"p{number}", [f"{self.ip4}/24", f"{self.ip6}/64"])

    def _popen(self, argv, cgroup, user=None, **options):
        cgroups.create(cgroup)
        procs = str(cgroup / "cgroup.procs")

        def enter():
            namespaces.enter(self.netns)  # first: an agent follows processes of its cgroup to where they are
            with open(procs, "w", encoding="ascii") as file:
                file.write("0")

        argv = [str(argument) for argument in argv]
        if user:
            entry = pwd.getpwnam(user)
            argv = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups", *argv]
        # Each child needs its own namespace and cgroup before exec, and this program starts no threads before forking.
        return subprocess.Popen(argv, preexec_fn=enter, start_new_session=True, **options)

    def _unit(self, unit):
        return self.cgroup / unit

    def run(self, *argv, unit="session.scope", user=None, timeout=15, daemon=False, env=None, stdin=None) -> Result:
        """Runs a command to its end in a unit of this host (`daemon`: beside it, out of the agent's scope)."""
        cgroup = self.lab.daemons / self.name if daemon else self._unit(unit)
        began = time.monotonic()
        process = self._popen(argv, cgroup, user, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL, text=True,
                              env={**os.environ, **env} if env else None)
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            raise AssertionError(f"{argv}: not done within {timeout} s\n{stdout}{stderr}") from None
        return Result(argv, process.returncode, stdout, stderr, time.monotonic() - began)

    def call(self, function, *arguments, unit="session.scope", user=None, timeout=10.0, daemon=False):
        """What the function returns when a process of this host runs it; raises what it raised (harness/fork.py)."""
        cgroup = cgroups.create(self.lab.daemons / self.name if daemon else self._unit(unit))

        def enter():
            namespaces.enter(self.netns)
            (cgroup / "cgroup.procs").write_text("0")
            if user:
                entry = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)

        return fork.call(enter, function, arguments, timeout)

    def start(self, *argv, unit="session.scope", user=None, daemon=False, log=None, env=None):
        """Starts a command that stays; its output goes to `log` in the host's folder."""
        cgroup = self.lab.daemons / self.name if daemon else self._unit(unit)
        with open(self.dir / (log or Path(str(argv[0])).name + ".log"), "ab") as output:
            process = self._popen(argv, cgroup, user, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                                  env={**os.environ, **env} if env else None)
        self.lab.children.append(process)
        return process

    def pipe(self, *argv, unit="session.scope", user=None, daemon=False):
        """Starts a command that is spoken to through its standard input and output."""
        cgroup = self.lab.daemons / self.name if daemon else self._unit(unit)
        process = self._popen(argv, cgroup, user, stdout=subprocess.PIPE, stdin=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
        self.lab.children.append(process)
        return process

    def probe(self, kind, address, port, unit="session.scope", user=None, text="ping") -> dict:
        result = self.run(PYTHON, PROBE, kind, address, port, text, unit=unit, user=user).check()
        return json.loads(result.stdout)

    def hold(self, address, port, unit="session.scope", kind="hold") -> Probe:
        return Probe(self.pipe(PYTHON, PROBE, kind, address, port, unit=unit))

    def serve(self, kind, port, address="::", unit="echo.service", user=None):
        """An echo server; returns when it listens."""
        process = self.pipe(PYTHON, PROBE, "serve", kind, address, port, unit=unit, user=user)
        if not process.stdout.readline():
            raise AssertionError(f"the echo server on {address} {kind}/{port} did not start")
        return process

    def listens(self, port) -> bool:
        return self.run("ss", "-Hltn", f"sport = :{port}", daemon=True).stdout.strip() != ""


class Lab:
    """Everything is named after `name`; two runs of one lab exclude each other, and the next run clears what a killed
    one left behind."""

    def __init__(self, name, base="bulkhead-e2e", prefix="bh-e2e-{}", run=RUN):
        self.name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        self.prefix = prefix.format(self.name)
        self.fabric = f"{self.prefix}-fabric"
        self.cgroup = cgroups.root() / base / self.name
        self.daemons = self.cgroup / "_daemons"
        self.dir = run / self.name
        self.hosts, self.children, self._teardown = [], [], []
        self._closed = False
        self._lock = self._take_lock(run / f"{self.name}.lock")
        self.clear()

    def open(self):
        atexit.register(self.close)
        open_labs.append(self)
        mount_bpffs()
        try:
            self.dir.mkdir()
            cgroups.create(self.daemons)
            namespaces.make_fabric(self.fabric)
        except BaseException:
            self.close()
            raise
        return self

    def leave(self) -> None:
        """Ends this program's part and lets everything run on."""
        self._teardown.clear()
        self._closed = True
        atexit.unregister(self.close)
        self._lock.close()

    def _take_lock(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            lock = open(path, "w", encoding="ascii")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(f"another run of the lab '{self.name}' is under way") from None
            # The run before may have removed the file between our open and our lock.
            if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                return lock
            lock.close()

    def add_host(self, name, number=None) -> Host:
        host = Host(self, name, number or 11 + sum(11 <= other.number < 50 for other in self.hosts))
        self.hosts.append(host)
        return host

    def on_close(self, action) -> None:
        self._teardown.append(action)

    def make_folder(self, path: Path) -> None:
        """A folder outside of the lab's own that some program insists on. Removed with the lab, if it was not there."""
        if not path.exists():
            with open(self.dir / "made", "a", encoding="ascii") as made:
                made.write(f"{path}\n")
            path.mkdir()

    def pins(self) -> list[Path]:
        """Pin folders of the agents of this lab (agent: instance_name)."""
        stem = "-".join(self.cgroup.relative_to(cgroups.root()).parts)
        return sorted((BPFFS / "bulkhead").glob(f"{stem}-*"))

    def clear(self) -> None:
        """Removes all that carries this lab's name. Kills by cgroup, so it can end nothing else."""
        cgroups.remove(self.cgroup)
        for pins in self.pins():
            shutil.rmtree(pins, ignore_errors=True)
        try:
            (BPFFS / "bulkhead").rmdir()
        except OSError:  # not there, or other agents' pins are
            pass
        for netns in Path("/run/netns").glob(f"{self.prefix}-*"):
            namespaces.delete(netns.name)
        if (made := self.dir / "made").exists():
            for folder in made.read_text().split():
                if Path(folder).is_dir():
                    Path(folder).rmdir()
        shutil.rmtree(self.dir, ignore_errors=True)

    def logs(self, lines=25) -> str:
        """The end of every log, for the report of a failed test."""
        parts = []
        for path in sorted(self.dir.glob("*/*.log")):
            tail = path.read_text(errors="replace").splitlines()[-lines:]
            parts.append(f"--- {path.relative_to(self.dir)}\n" + "\n".join(tail))
        return "\n".join(parts)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        if self in open_labs:
            open_labs.remove(self)
        for action in reversed(self._teardown):
            try:
                action()
            except Exception as error:  # noqa: BLE001 - the rest must still be taken down
                print(f"lab {self.name}: {error}", file=sys.stderr)
        self._teardown.clear()
        cgroups.remove(self.cgroup)
        for child in self.children:
            child.wait(5)
            for stream in (child.stdin, child.stdout):
                if stream:
                    try:
                        stream.close()
                    except BrokenPipeError:
                        pass
        self.children.clear()
        self.clear()
        Path(self._lock.name).unlink(missing_ok=True)
        self._lock.close()
        if self.dir.parent == RUN:
            for folder in (self.cgroup.parent, RUN):
                try:
                    folder.rmdir()
                except OSError:  # other labs are there still
                    pass

    def __enter__(self):
        return self.open()

    def __exit__(self, *_):
        self.close()
