# SPDX-License-Identifier: Apache-2.0
"""idle: processor time that an agent takes while nothing happens, by how many interfaces the host has."""

import time

import policies
from harness.bulkhead import Agent
from kernel import entry, show
from pair import PORT, BenchLab, Pair
from records import processor_seconds
from rounds import note

PAIRS = (0, 50, 200)  # of veth, one for a container; both ends are here, so that each counts twice
RULES, PEERS = 10, 10
SETTLES = 3  # seconds
LOOKS = 5    # seconds


def taken(agent) -> float:
    """Milliseconds of processor time a second."""
    before = sum(processor_seconds(agent.process.pid))
    time.sleep(LOOKS)
    return (sum(processor_seconds(agent.process.pid)) - before) * 1000 / LOOKS


def add_pairs(end, numbers):
    lines = [line for n in numbers for line in (f"link add a{n} type veth peer name b{n}", f"link set a{n} up",
                                                f"link set b{n} up")]
    end.run("ip", "-batch", "-", stdin="\n".join(lines), timeout=60).check()


def run(options):
    entries = []
    with BenchLab("idle") as lab:
        pair = Pair(lab, "host")
        end, other = pair.server, pair.client
        folder = end.dir / "policy"
        folder.mkdir()
        (folder / "bench.yaml").write_text(policies.bulkhead_policy(end.name, RULES, PEERS, other.ip4, PORT))
        agent = Agent(end, policy_dir=folder, log_level="warning").start(timeout=120)
        made = 0
        for pairs in PAIRS:
            note(f"{2 * pairs + 1} interfaces")
            add_pairs(end, range(made, pairs))
            made = pairs
            time.sleep(SETTLES)
            entries.append(entry(f"{2 * pairs + 1}-interfaces", "agent", "ms/s",
                                 [taken(agent) for _ in range(options.rounds)]))
    show(entries, {})
    return entries
