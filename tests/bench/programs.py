# SPDX-License-Identifier: Apache-2.0
"""programs: how often each program runs for a unit of traffic and how long, as the kernel counts it."""

import statistics

import datapath
from harness.program_runs import counted, runs_by_pin, runs_of, shown
from pair import BenchLab
from rounds import note

METRICS = ["crr", "rr", "urr"]
SELDOM = 0.05  # runs a unit: what runs for the agent, not for the traffic
WARM_UP = 0.1  # seconds, of traffic.cpp


def runs_of_empty_hooks():
    """The nameless program of empty_hooks.py, of which there are two, one for each end."""
    return {str(one["id"]): runs_of(one) for one in shown("prog") if one["type"] == "sched_cls" and not one.get("name")}


def one_round(case, read, metric, seconds, cpu):
    """name -> (runs a unit, nanoseconds a run)"""
    case.wake()
    before = read()
    rate, _ = case.pair.measure(metric, seconds, cpu)
    after = read()
    case.sleep()
    units = rate * (seconds + WARM_UP)
    done = {name: after[name] - before[name] for name in after if name in before}
    return {name: (runs.count / units, runs.nanoseconds / runs.count) for name, runs in done.items()
            if runs.count > units * SELDOM}


def plain(pin):
    """guard_3_in is the guard of the third interface; there is one."""
    return "guard_" + pin.rpartition("_")[2] if pin.startswith("guard_") else pin


def run(options):
    with BenchLab("programs") as lab, counted():
        empty, case = datapath.EmptyHooks(lab, "empty"), datapath.Bulkhead(lab, "programs", "--guard", "always")
        for one in (empty, case):
            one.prepare()
            one.sleep()
        base, rounds = [], {}
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            for metric in options.metrics or METRICS:
                of_empty = one_round(empty, runs_of_empty_hooks, metric, options.seconds, options.cpu)
                base += [nanoseconds for _, nanoseconds in of_empty.values()]
                read = one_round(case, lambda: runs_by_pin(lab.pins()), metric, options.seconds, options.cpu)
                for pin, figures in read.items():
                    rounds.setdefault((metric, plain(pin)), []).append(figures)
        case.wake()
    nothing = statistics.median(base)
    print(f"an empty program: {nothing:.0f} ns [{min(base):.0f}-{max(base):.0f}], most of it the counting")
    print(f"{'':8}{'program':20}{'runs a unit':>12}{'ns a run above that':>28}")
    entries = []
    for (metric, name), figures in sorted(rounds.items()):
        above = [nanoseconds - nothing for _, nanoseconds in figures]
        runs, value = statistics.median(runs for runs, _ in figures), statistics.median(above)
        print(f"{metric:8}{name:20}{runs:12.2f}{value:12.0f} [{min(above):.0f}-{max(above):.0f}]")
        entries.append({"case": "bulkhead", "metric": f"{metric}-{name}", "unit": "ns/run", "value": round(value, 1),
                        "baseline": round(nothing, 1), "ratio": round((value + nothing) / nothing, 4),
                        "rounds": len(figures)})
    return entries
