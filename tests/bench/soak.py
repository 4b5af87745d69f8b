# SPDX-License-Identifier: Apache-2.0
"""soak: what an agent holds in memory while an hour of traffic passes, allowed and refused."""

import statistics
import time

import policies
from harness.bulkhead import Agent
from kernel import entry, show
from pair import PORT, BenchLab, Pair
from rounds import note
from start import resident_mib

RULES, PEERS = 10_000, 10_000
LIMIT = 40  # MiB
PERIOD = 5  # seconds: a burst of work, then quiet, as on a server
SETTLES = 3  # minutes: what start and the first traffic took has been given back, and what is kept is there

# Refused, each time by another port: what a scan from this host looks like.
SCAN = """
import errno, random, socket
for _ in range(200):
    with socket.socket() as one:
        assert one.connect_ex(("{address}", random.randrange(6000, 60000))) == errno.EPERM
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        try:
            one.sendto(b"x", ("{address}", random.randrange(6000, 60000)))
            raise SystemExit("a refused datagram was sent")
        except PermissionError:
            pass
"""


class Minute:
    """One minute of bursts; counts what it did."""

    def __init__(self, pair, cpu):
        self.pair, self.cpu, self.work = pair, cpu, {"crr": 0, "urr": 0, "refused": 0}

    def run(self):
        end = time.monotonic() + 60
        while (burst_ends := time.monotonic() + PERIOD) <= end:
            for metric in ("crr", "urr"):
                rate, _ = self.pair.measure(metric, 0.4, self.cpu)
                self.work[metric] += int(rate * 0.4)
            self.pair.client.run("python3", "-c", SCAN.format(address=self.pair.server.ip4), unit="work").check()
            self.work["refused"] += 400
            time.sleep(max(0.0, burst_ends - time.monotonic()))
        return self.work


def run(options):
    with BenchLab("soak") as lab:
        pair = Pair(lab, "host")
        agents = {}
        for role, end, other in zip(("client", "server"), pair.ends(), reversed(pair.ends())):
            folder = end.dir / "policy"
            folder.mkdir()
            (folder / "bench.yaml").write_text(policies.bulkhead_policy(end.name, RULES, PEERS, other.ip4, PORT))
            agents[role] = Agent(end, policy_dir=folder, log_level="warning").start(timeout=120)
        memory = {role: [] for role in agents}
        done = {}
        for minute in range(options.minutes):
            for name, count in Minute(pair, options.cpu).run().items():
                done[name] = done.get(name, 0) + count
            for role, agent in agents.items():
                if agent.process.poll() is not None:
                    raise RuntimeError(f"the agent of the {role} ended:\n{agent.log()}")
                memory[role].append(resident_mib(agent.process.pid))
            note(f"minute {minute + 1} of {options.minutes}: "
                 + ", ".join(f"{role} {values[-1]:.1f} MiB" for role, values in memory.items()))
    note(f"{done['crr']} connections, {done['urr']} round trips by UDP, {done['refused']} refused attempts")
    entries = []
    for role, values in memory.items():
        settled = values[min(SETTLES, len(values) - 1):]
        tenth = max(1, len(settled) // 10)
        entries += [entry(role, "memory", "MiB", settled),
                    entry(role, "growth", "%", [100 * (statistics.median(settled[-tenth:])
                                                       / statistics.median(settled[:tenth]) - 1)])]
    show(entries, {(role, "memory"): LIMIT for role in memory} | {(role, "growth"): 5 for role in memory})
    return entries
