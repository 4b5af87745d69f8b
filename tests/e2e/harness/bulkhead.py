# SPDX-License-Identifier: Apache-2.0
"""The programs under test: Controller, Agent and what bulkheadctl says."""

import contextlib
import datetime
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from pathlib import Path

from .lab import Host, Lab, Result, wait_until

# Runs every agent under the limits of its systemd unit, see as_unit.py: a proof of the unit, for a run by hand.
AGENTS_AS_UNIT = os.environ.get("BULKHEAD_AS_UNIT") == "1"
REPOSITORY = Path(__file__).resolve().parents[3]
BUILD = Path(os.environ.get("BULKHEAD_BUILD_DIR", REPOSITORY / "build" / "dev")).resolve()

ALL = "100000"  # more records than any test makes


def program(name) -> Path:
    folder = {"bulkheadd": "agent/daemon", "bulkhead-controller": "controller", "bulkheadctl": "cli"}[name]
    for candidate in (BUILD / "bin" / name, BUILD / folder / name, *BUILD.glob(f"**/{name}")):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise FileNotFoundError(f"{name} is not built in {BUILD}: cmake --preset dev && cmake --build --preset dev")


class Readiness:
    """The receiving end of sd_notify(3). Lives in the file system, since abstract names end at a network namespace."""

    def __init__(self, path: Path):
        path.unlink(missing_ok=True)
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o666)

    def wait(self, process, log: Path, timeout: float):
        deadline = time.monotonic() + timeout
        self.socket.settimeout(0.05)
        while time.monotonic() < deadline:
            try:
                if "READY=1" in self.socket.recv(4096).decode().splitlines():
                    return
            except TimeoutError:
                if process.poll() is not None:
                    break
        state = f"exited with {process.returncode}" if process.poll() is not None else f"not ready within {timeout} s"
        raise AssertionError(f"{' '.join(map(str, process.args))}: {state}\n{log.read_text(errors='replace')}")

    def until(self, message: str, timeout: float) -> bool:
        """Whether the message comes; others before it are read as well."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self.socket.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                if message in self.socket.recv(4096).decode().splitlines():
                    return True
            except TimeoutError:
                break
        return False

    def close(self):
        self.socket.close()


class Daemon:
    """A program of ours that stays, in the daemons' cgroup of its host."""

    def __init__(self, host: Host, argv, log: str):
        self.host, self.argv, self.log_path = host, [str(argument) for argument in argv], host.dir / log
        self.process = None

    def start(self, timeout=30.0):
        readiness = Readiness(self.host.dir / f"{self.log_path.stem}.notify")
        try:
            self.process = self.host.start(*self.argv, daemon=True, log=self.log_path.name,
                                           env={"NOTIFY_SOCKET": str(readiness.path)})
            readiness.wait(self.process, self.log_path, timeout)
        finally:
            readiness.close()
        return self

    def send(self, number):
        os.kill(self.process.pid, number)

    def stop(self, number=signal.SIGTERM, timeout=10.0) -> int:
        """The exit code."""
        if self.process.poll() is None:
            self.send(number)
        return self.process.wait(timeout)

    def kill(self):
        self.stop(signal.SIGKILL)

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")


class Controller(Daemon):
    def __init__(self, host: Host, port=7443):
        self.state = host.dir / "controller"
        self.port = port
        self.address = f"{host.ip4}:{port}"
        config = host.dir / "controller.yaml"
        config.write_text(f"state_dir: {self.state}\ngrpc_listen: 0.0.0.0:{port}\n")
        super().__init__(host, [program("bulkhead-controller"), "--config", config], "controller.log")

    def ctl(self, *arguments, timeout=15) -> Result:
        """bulkheadctl as the first admin, from the controller's host."""
        return self.host.run(program("bulkheadctl"), "--config", self.state / "admin.yaml", *arguments, daemon=True,
                             timeout=timeout)

    def token(self, *arguments) -> str:
        return self.ctl("agent", "token", "create", *arguments).check().stdout.strip()

    def apply(self, text: str, *arguments, name="policy.yaml", check=True) -> Result:
        path = self.host.dir / name
        path.write_text(text)
        result = self.ctl("policy", "apply", path, *arguments)
        return result.check() if check else result

    def records(self, *arguments, command="flows") -> list[dict]:
        return [json.loads(line) for line in
                self.ctl(command, "-o", "json", "--last", ALL, *arguments).check().stdout.splitlines()]

    def violations(self, *arguments) -> list[dict]:
        return self.records(*arguments, command="violations")

    def stored_seqs(self, agent_id) -> list[int]:
        """Numbers of all stored records of one agent, of every kind, in order."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/controller.db?mode=ro", uri=True)) as database:
            return [seq for seq, in database.execute("SELECT seq FROM records WHERE agent_id = ? ORDER BY seq",
                                                     (agent_id,))]

    def stored_acts(self, agent_id, action) -> int:
        """How many stored records of one agent tell of this act."""
        with contextlib.closing(sqlite3.connect(f"file:{self.state}/controller.db?mode=ro", uri=True)) as database:
            return database.execute("SELECT count(*) FROM records WHERE agent_id = ? AND instr(record, ?) > 0",
                                    (agent_id, action.encode())).fetchone()[0]

    def agent_status(self, name) -> dict:
        """The agent's entry of `agent status`; empty when it is not known."""
        document = json.loads(self.ctl("agent", "status", "-o", "json").check().stdout or "[]")
        agents = document if isinstance(document, list) else document.get("agents", [document])
        return next((agent for agent in agents if agent.get("name") == name), {})

    def follow(self, *arguments, command="violations"):
        """`violations -f` in the background, from now on: a Follow."""
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return Follow(self.host.pipe(program("bulkheadctl"), "--config", self.state / "admin.yaml", command, "-f", "-o",
                                     "json", "--since", now, *arguments, daemon=True))


class Follow:
    """Lines of a following bulkheadctl, with the time at which each was read."""

    def __init__(self, process):
        self.process = process
        os.set_blocking(process.stdout.fileno(), False)
        self._rest, self.records = b"", []

    def poll(self):
        try:
            while chunk := os.read(self.process.stdout.fileno(), 65536):
                self._rest += chunk
        except BlockingIOError:
            pass
        *lines, self._rest = self._rest.split(b"\n")
        self.records += [(time.monotonic(), json.loads(line)) for line in lines if line]
        return self.records

    def wait(self, predicate, timeout=5.0, what="record"):
        """(when, record) of the first record that satisfies the predicate."""
        return wait_until(lambda: next((entry for entry in self.poll() if predicate(entry[1])), None), timeout, what,
                          0.005)


class Agent(Daemon):
    """bulkheadd of one host, guarding the host's cgroup or one below it."""

    def __init__(self, host: Host, labels=None, controller=None, policy_dir=None, cgroup=None, name=None, extra="",
                 management=(), log_level="info", as_unit=AGENTS_AS_UNIT):
        self.name = name or host.name
        self.dir = host.dir / f"agent-{self.name}"
        self.dir.mkdir(exist_ok=True)
        self.state, self.socket = self.dir / "state", self.dir / "agent.sock"
        self.cgroup = cgroup or host.cgroup
        self.config = self.dir / "agent.yaml"
        labels = {"host": self.name} if labels is None else labels
        lines = [f"hostname: {self.name}", f"cgroup: {self.cgroup}", f"state_dir: {self.state}",
                 f"socket: {self.socket}", f"log_level: {log_level}",
                 f"labels: {json.dumps(labels)}",
                 f"failsafe: {{management: {json.dumps(list(management) or ['192.0.2.1/32'])}, resolvers: [], ntp: []}}"]
        if controller:
            lines.append(f"controller: {controller.address}")
        if policy_dir:
            lines.append(f"policy_dir: {policy_dir}")
        self.config.write_text("\n".join(lines) + "\n" + extra)
        self.controller = controller
        self.join_arguments = []
        argv = [program("bulkheadd"), "--config", self.config]
        if as_unit:
            unit = REPOSITORY / "packaging/systemd/bulkheadd.service"
            argv = [sys.executable, Path(__file__).parent / "as_unit.py", unit, self.dir, "--", *argv]
        super().__init__(host, argv, f"agent-{self.name}.log")
        host.lab.on_close(self._detach_quietly)

    def enrol(self, *token_arguments):
        """Starts with a fresh join token; later starts use the certificate."""
        enrolled, plain = self.argv + ["--join", self.controller.token(*token_arguments)], self.argv
        self.argv = enrolled
        try:
            return self.start()
        finally:
            self.argv = plain

    def local(self, *arguments) -> Result:
        return self.host.run(program("bulkheadctl"), "--local", "--socket", self.socket, *arguments, daemon=True)

    def records(self, *arguments, command="flows") -> list[dict]:
        return [json.loads(line) for line in
                self.local(command, "-o", "json", "--last", ALL, *arguments).check().stdout.splitlines()]

    def violations(self, *arguments) -> list[dict]:
        return self.records(*arguments, command="violations")

    def status(self) -> dict:
        return json.loads(self.local("agent", "status", "-o", "json").check().stdout)

    def detach(self) -> Result:
        return self.host.run(*self.argv, "--detach", daemon=True)

    def _detach_quietly(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        if self.cgroup.exists():
            self.detach()


def deploy(lab: Lab, hosts: dict[str, dict], **agent_options):
    """A controller on the host `ctl` and an enrolled agent on each named host: (controller, {name: agent})."""
    controller = Controller(lab.add_host("ctl", 1)).start()
    agents = {}
    for name, labels in hosts.items():
        agents[name] = Agent(lab.add_host(name), labels, controller, **agent_options).enrol()
    wait_until(lambda: all(controller.agent_status(name).get("connected") for name in hosts), 10, "agents connected")
    return controller, agents
