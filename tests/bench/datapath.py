# SPDX-License-Identifier: Apache-2.0
"""datapath: what enforcement on both ends costs traffic, as a ratio to no policy in the same run."""

import functools
import os
import signal
import subprocess
from pathlib import Path

import policies
from harness.bulkhead import Agent, program
from harness.lab import wait_until
from pair import PORT, BenchLab, Pair
from rounds import Table, note

RULES, PEERS = 10_000, 100_000
METRICS = ["crr", "rr", "urr", "upps", "stream"]
MORE_METRICS = ["urr-sendto", "upps-sendto"]
TARGETS = {
    ("bulkhead-doors", "crr"): .95, ("bulkhead-doors", "rr"): .99, ("bulkhead-doors", "urr"): .98,
    ("bulkhead-doors", "upps"): .95, ("bulkhead-doors", "stream"): .99, ("bulkhead", "crr"): .91,
    ("bulkhead", "rr"): .96, ("bulkhead", "urr"): .96, ("bulkhead", "upps"): .91, ("bulkhead", "stream"): .99,
}


class Case:
    """Traffic between a pair of hosts. What stands between them is asleep while other cases are measured."""

    def __init__(self, lab, name):
        self.name, self.pair = name, Pair(lab, name)

    def prepare(self):
        pass

    def wake(self):
        pass

    def sleep(self):
        pass


class Bulkhead(Case):
    """The real agent on both ends: every flow is recorded, both planes hold the policy."""

    def __init__(self, lab, name, *arguments):
        super().__init__(lab, name)
        self.arguments, self.agents = arguments, []

    def prepare(self):
        for end, other in (self.pair.ends(), reversed(self.pair.ends())):
            folder = end.dir / "policy"
            folder.mkdir()
            (folder / "bench.yaml").write_text(policies.bulkhead_policy(end.name, RULES, PEERS, other.ip4, PORT))
            agent = Agent(end, policy_dir=folder, log_level="warning")
            agent.argv += self.arguments
            self.agents.append(agent.start(timeout=120))

    def wake(self):
        self._send(signal.SIGCONT)

    def sleep(self):
        self._send(signal.SIGSTOP)

    def _send(self, number):
        for agent in self.agents:
            if agent.process.poll() is not None:
                raise RuntimeError(f"{self.name}: the agent ended:\n{agent.log()}")
            os.kill(agent.process.pid, number)


class EmptyHooks(Case):
    """Nothing is judged: what two tcx hooks a packet cost with any program."""

    def prepare(self):
        for end in self.pair.ends():
            end.start("python3", Path(__file__).with_name("empty_hooks.py"), "eth0", daemon=True, log="empty_hooks.log")
            wait_until(lambda end=end: "attached" in (end.dir / "empty_hooks.log").read_text(encoding="utf-8"), 10,
                       "empty programs attached")


class Nftables(Case):
    def __init__(self, lab, name, rules):
        super().__init__(lab, name)
        self.rules = rules

    def prepare(self):
        for end, other in (self.pair.ends(), reversed(self.pair.ends())):
            path = end.dir / "rules.nft"
            path.write_text(self.rules(other.ip4))
            end.run("nft", "-f", path, daemon=True, timeout=120).check()


def agent_takes(argument) -> bool:
    """Not each version that is measured has all of them."""
    return argument in subprocess.run([program("bulkheadd"), "--help"], capture_output=True, text=True,
                                      check=True).stdout


def all_cases():
    """Name -> what makes the case in a lab."""
    cases = {"none": Case}
    if agent_takes("--guard"):
        cases["bulkhead"] = lambda lab, name: Bulkhead(lab, name, "--guard", "always")
    if agent_takes("--cgroup-ingress"):
        cases["bulkhead-ingress"] = lambda lab, name: Bulkhead(lab, name, "--guard", "always",
                                                               "--cgroup-ingress", "always")
    cases["empty-hooks"] = EmptyHooks
    doors = ["--guard", "never"] if agent_takes("--guard") else []
    cases["bulkhead-doors"] = lambda lab, name: Bulkhead(lab, name, *doors)
    cases["nftables-set-stateful"] = lambda lab, name: Nftables(
        lab, name, lambda partner: policies.nft_stateful_set(RULES, partner, PORT))
    cases["nftables-set-stateless"] = lambda lab, name: Nftables(
        lab, name, lambda partner: policies.nft_stateless_set(RULES, partner, PORT))
    cases["nftables-linear-1000"] = lambda lab, name: Nftables(
        lab, name, lambda partner: policies.nft_linear(1000, partner, PORT))
    cases["nftables-linear-10000"] = lambda lab, name: Nftables(
        lab, name, lambda partner: policies.nft_linear(10_000, partner, PORT))
    return cases


# Rounds on the same pairs. Two pairs with nothing between them differ by up to two hundredths, each for its whole life.
ROUNDS_A_PAIR = 5


def turned(items, by):
    by %= len(items)
    return items[by:] + items[:by]


def measure(name, makers, metrics, options, baseline="none") -> Table:
    """Every metric of every case in each round. None is always made, or measured, after the same other one.

    makers: what make a case each in a lab."""
    table = Table(baseline)
    for first in range(0, options.rounds, ROUNDS_A_PAIR):
        with BenchLab(name) as lab:
            cases = [make(lab) for make in turned(makers, first // ROUNDS_A_PAIR)]
            for case in cases:
                note(f"preparing {case.name}")
                case.prepare()
                case.sleep()
            for number in range(first, min(first + ROUNDS_A_PAIR, options.rounds)):
                note(f"round {number + 1} of {options.rounds}")
                one_round(turned(cases, number), metrics, options, table)
            for case in cases:
                case.wake()
    return table


def one_round(cases, metrics, options, table):
    for metric in metrics:
        for case in cases:
            case.wake()
            table.add(case.name, metric, *case.pair.measure(metric, options.seconds, options.cpu))
            case.sleep()


def run(options):
    makers = all_cases()
    wanted = options.cases or list(makers)
    for name in wanted:
        if name not in makers:
            raise SystemExit(f"datapath: no case {name}; there are {', '.join(makers)}")
    wanted = [functools.partial(makers[name], name=name) for name in dict.fromkeys(["none", *wanted])]
    table = measure("datapath", wanted, options.metrics or METRICS, options)
    table.print(TARGETS)
    return table.entries()
