# SPDX-License-Identifier: Apache-2.0
"""start: how long an agent takes to be ready, with a saved policy of a stated size, and what it then holds in memory."""

import os
import time
from pathlib import Path

import policies
from harness.bulkhead import Agent
from kernel import entry, show
from pair import PORT, BenchLab, Pair
from rounds import note

SIZES = {"10-rules": (10, 10), "10000-rules": (10_000, 10_000)}
SETTLES = 4  # seconds; what reading the policy took is given back by then


def resident_mib(pid) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no memory")


def ready_ms(agent) -> float:
    begun = time.monotonic()
    agent.start(timeout=120)
    return (time.monotonic() - begun) * 1000


def run(options):
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))  # nothing is measured beside it
    try:
        return measure(options)
    finally:
        os.sched_setaffinity(0, pinned)


def measure(options):
    entries, targets = [], {}
    with BenchLab("start") as lab:
        pair = Pair(lab, "host")
        for (case, (rules, peers)), end, other in zip(SIZES.items(), pair.ends(), reversed(pair.ends())):
            folder = end.dir / "policy"
            folder.mkdir()
            (folder / "bench.yaml").write_text(policies.bulkhead_policy(end.name, rules, peers, other.ip4, PORT))
            agent = Agent(end, policy_dir=folder, log_level="warning")
            agent.start(timeout=120)  # reads the folder, saves the policy
            agent.stop()
            boots, restarts, memory = [], [], []
            for i in range(options.rounds):
                note(f"{case}: round {i + 1} of {options.rounds}")
                end.run(*agent.argv, "--detach", daemon=True).check()  # as a boot finds it: nothing is in the kernel
                boots.append(ready_ms(agent))
                agent.stop()
                restarts.append(ready_ms(agent))
                time.sleep(SETTLES)
                memory.append(resident_mib(agent.process.pid))
                agent.stop()
            entries += [entry(case, "boot", "ms", boots), entry(case, "restart", "ms", restarts),
                        entry(case, "memory", "MiB", memory)]
            targets |= {(case, "boot"): 500, (case, "memory"): 40}
    show(entries, targets)
    return entries
