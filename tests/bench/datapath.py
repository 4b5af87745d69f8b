# SPDX-License-Identifier: Apache-2.0
"""datapath: what enforcement on both ends costs traffic, as a ratio to no policy in the same run."""

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


def measure(cases, metrics, rounds, seconds, cpu, baseline="none") -> Table:
    """Every metric of every case in each round; the order of cases moves on, so that none is always after another."""
    table = Table(baseline)
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        order = cases[number % len(cases):] + cases[:number % len(cases)]
        for metric in metrics:
            measured = {}
            for case in order:
                case.wake()
                measured[case.name] = case.pair.measure(metric, seconds, cpu)
                case.sleep()
            for case in cases:
                table.add(case.name, metric, *measured[case.name])
    return table


def run(options):
    makers = all_cases()
    wanted = options.cases or list(makers)
    for name in wanted:
        if name not in makers:
            raise SystemExit(f"datapath: no case {name}; there are {', '.join(makers)}")
    with BenchLab("datapath") as lab:
        cases = [makers[name](lab, name) for name in dict.fromkeys(["none", *wanted])]
        for case in cases:
            note(f"preparing {case.name}")
            case.prepare()
            case.sleep()
        table = measure(cases, options.metrics or METRICS, options.rounds, options.seconds, options.cpu)
        for case in cases:
            case.wake()
    table.print(TARGETS)
    return table.entries()
