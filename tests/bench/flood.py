# SPDX-License-Identifier: Apache-2.0
"""flood: how many SYNs a second a host takes that refuses each of them and counts it."""

import os
import statistics

import policies
from datapath import Bulkhead, Case
from harness.bulkhead import Agent
from harness.flood import FloodWire
from kernel import entry, show
from pair import PORT, BenchLab
from rounds import note

RULES, PEERS = 10_000, 10_000
RATE = 1_000_000


class Closed(Case):
    """No policy, and nobody listens: what the kernel takes by itself, answering each SYN by a reset."""

    def prepare(self):
        self.wire = FloodWire(self.pair.server, self.pair.client)

    def measure(self, seconds, cpu) -> dict[str, float]:
        """`taken`: when every processor sends, and takes what it has sent before it sends more. `taken-of-1M`: when one
        takes what another sends."""
        self.wire.receive_on(None)
        own = self.wire.begin(round(RATE * seconds)).end()
        self.wire.receive_on(cpu)
        sender = next((other for other in range(os.cpu_count()) if other != cpu), cpu)
        million = self.wire.begin(round(RATE * seconds), RATE, [sender]).end()
        return {"taken": own["taken"] / own["seconds"], "taken-of-1M": million["taken"] / million["seconds"],
                "sent-of-1M": million["sent"] / million["seconds"]}


class Refusing(Closed, Bulkhead):
    """The real agent. Each port has a listener, and none is for who floods."""

    def __init__(self, lab, name, refuse):
        super().__init__(lab, name, "always")
        self.refuse = refuse

    def prepare(self):
        Closed.prepare(self)
        host = self.pair.server
        folder = host.dir / "policy"
        folder.mkdir()
        (folder / "bench.yaml").write_text(
            policies.bulkhead_policy(host.name, RULES, PEERS, self.pair.client.ip4, PORT))
        self.agents = [Agent(host, policy_dir=folder, log_level="warning", extra=f"refuse: {self.refuse}\n").start(120)]
        self.wire.listen("work")


def run(options):
    with BenchLab("flood") as lab:
        cases = [Closed(lab, "closed"), Refusing(lab, "reset", "reset"), Refusing(lab, "silent", "silent")]
        for case in cases:
            note(f"preparing {case.name}")
            case.prepare()
            case.sleep()
        measured = {}
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            for case in cases[number % len(cases):] + cases[:number % len(cases)]:
                case.wake()
                for metric, rate in case.measure(options.seconds, options.cpu).items():
                    measured.setdefault((case.name, metric), []).append(rate / 1000)
                case.sleep()
        for case in cases:
            case.wake()
    entries = [entry(case.name, metric, "k/s", measured[case.name, metric],
                     statistics.median(measured["closed", metric]))
               for metric in ("taken", "taken-of-1M", "sent-of-1M") for case in cases]
    show(entries, {})
    return entries
