# SPDX-License-Identifier: Apache-2.0
"""Two hosts joined by a veth pair, nothing between them: what one case of a benchmark runs on."""

import json
import os
import subprocess
from pathlib import Path

from harness import cgroups, namespaces
from harness.bulkhead import BUILD
from harness.lab import Host, Lab

RUN = Path("/run/bulkhead-bench")
PORT = 5000


def bench_program(name) -> Path:
    return BUILD / "tests" / "bench" / f"bench_{name}"


class BenchLab(Lab):
    """The lab of one benchmark. The next run clears what a killed one left behind."""

    def __init__(self, name):
        super().__init__(name, base="bulkhead-bench", prefix="bh-bench-{}", run=RUN)

    def close(self):
        super().close()
        for folder in (self.cgroup.parent, RUN):
            try:
                folder.rmdir()
            except OSError:  # another benchmark is there still
                pass


class End(Host):
    """A host whose only wire goes to the other end."""

    def __init__(self, lab, name, number):  # pylint: disable=super-init-not-called
        self.lab, self.name, self.number = lab, name, number
        self.netns = f"{lab.prefix}-{name}"
        self.ip4, self.ip6 = f"10.88.0.{number}", f"fd88::{number}"
        self.cgroup = cgroups.create(lab.cgroup / name)
        self.dir = lab.dir / name
        self.dir.mkdir()
        namespaces.add(self.netns)
        lab.hosts.append(self)
        # At 45,000 connections a second TIME_WAIT would hold every port after a second.
        self.sysctl("net.ipv4.tcp_max_tw_buckets", 64)

    def sysctl(self, name, value):
        self.run("sysctl", "-q", "-w", f"{name}={value}", daemon=True).check()


class Pair:
    """A client, a server and the wire between them."""

    def __init__(self, lab, name):
        self.name = name
        self.client, self.server = End(lab, f"{name}-c", 1), End(lab, f"{name}-s", 2)
        namespaces.batch(self.client.netns, [f"link add eth0 type veth peer name eth0 netns {self.server.netns}"])
        for end in self.ends():
            cgroups.create(end.cgroup / "work")
            namespaces.batch(end.netns, [f"addr add {end.ip4}/24 dev eth0", f"addr add {end.ip6}/64 dev eth0 nodad",
                                         "link set eth0 up"])

    def ends(self):
        return [self.client, self.server]

    def measure(self, metric, seconds, cpu) -> tuple[float, float]:
        """(units of work a second, part of the CPU that the two processes got)"""
        if metric == "stream":
            return self._stream(seconds, cpu)
        argv = [bench_program("traffic"), metric, seconds, cpu]
        for end in self.ends():
            argv += [f"/run/netns/{end.netns}", end.cgroup / "work"]
        done = subprocess.run([str(word) for word in [*argv, self.server.ip4, PORT]], capture_output=True, text=True,
                              timeout=seconds + 30, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {metric}: {done.stderr}")
        result = json.loads(done.stdout)
        return result["count"] / result["seconds"], result["share"]

    def _stream(self, seconds, cpu):
        server = self.server.start(*go_first(cpu), "iperf3", "--server", "--one-off", "--bind", self.server.ip4,
                                   "--port", PORT, unit="work", log="iperf3.log")
        while not self.server.listens(PORT):
            if server.poll() is not None:
                raise RuntimeError(f"{self.name}: the iperf3 server ended: see {self.server.dir}/iperf3.log")
        # Whole seconds only; what starts slowly is left out.
        result = self.client.run(*go_first(cpu), "iperf3", "--client", self.server.ip4, "--port", PORT, "--json",
                                 "--congestion", "cubic", "--time", max(1, round(seconds)), "--omit", 1, unit="work",
                                 timeout=seconds + 30).check()
        server.wait(10)
        self.server.lab.children.remove(server)
        end = json.loads(result.stdout)["end"]
        share = end["cpu_utilization_percent"]
        return end["sum_received"]["bits_per_second"], (share["host_total"] + share["remote_total"]) / 100


def go_first(cpu):
    """Words before a command: on this CPU, where other work gets next to nothing (sched(7): The autogroup feature)."""
    return ["sh", "-c", '[ ! -e /proc/self/autogroup ] || echo -20 >/proc/self/autogroup; exec nice -n -20 taskset -c '
            + f'{cpu} "$@"', "sh"]


def pin_this_process(cpu):
    """This program and what it starts stay off the CPU that is measured."""
    others = os.sched_getaffinity(0) - {cpu}
    if others:
        os.sched_setaffinity(0, others)
