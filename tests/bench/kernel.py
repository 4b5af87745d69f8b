# SPDX-License-Identifier: Apache-2.0
"""verdict, policy, sessions: one host, one program that measures and prints {"metric": [samples]}."""

import json
import statistics

from harness import cgroups
from harness.bulkhead import BUILD
from pair import PORT, BenchLab, Pair, bench_program
from rounds import note

ENTRIES = 1_000_000
PLANE = 100_000
CONNECTIONS, HOLDERS = 50_000, 4  # one process may not have 50,000 descriptors everywhere


def samples(host, name, *arguments, timeout=240) -> dict[str, list[float]]:
    return json.loads(host.run(bench_program(name), *arguments, daemon=True, timeout=timeout).check().stdout)


def entry(case, metric, unit, values, baseline=None) -> dict:
    value = statistics.median(values)
    return {"case": case, "metric": metric, "unit": unit, "value": round(value, 3), "baseline": baseline,
            "ratio": round(value / baseline, 4) if baseline else None, "rounds": len(values),
            "lowest": round(min(values), 3), "highest": round(max(values), 3)}


def show(entries, targets):
    """Prints entries as lines; the targets are upper limits."""
    for one in entries:
        limit = targets.get((one["case"], one["metric"]))
        verdict = "" if limit is None else f"  target {limit:g}: {'holds' if one['value'] <= limit else 'MISSED'}"
        print(f"{one['case']:28} {one['metric']:12} {one['value']:10.1f} {one['unit']} "
              f"[{one['lowest']:.1f}-{one['highest']:.1f}]{verdict}")


def guarded_host(lab):
    """A host with a route to everywhere, and its cgroup for what is enforced."""
    host = Pair(lab, "host").client
    host.run("ip", "route", "add", "default", "via", "10.88.0.2", daemon=True).check()
    return host, cgroups.create(host.cgroup / "work")


def verdict(options):
    with BenchLab("verdict") as lab:
        host, cgroup = guarded_host(lab)
        measured = samples(host, "verdict", cgroup, cgroups.create(host.cgroup / "empty"), ENTRIES, ENTRIES,
                           options.rounds)
    empty = statistics.median(measured["empty-hook"])
    entries = []
    for case in ("verdict", "verdict-random-peers", "connect-hook", "connect-hook-random-peers"):
        # A verdict is timed 256 at a time, so the counting of one run is not in it.
        base = 0 if case.startswith("verdict") else empty
        entries.append(entry(case, "above-empty", "ns", [value - base for value in measured[case]]))
    show(entries, {("verdict", "above-empty"): 300})
    note(f"an empty connect program takes {empty:.0f} ns as the kernel counts it, mostly for counting")
    return entries


def policy(options):
    entries, idle, targets = [], [], {}
    with BenchLab("policy") as lab:
        host, cgroup = guarded_host(lab)
        for case, planes in (("plane-of-100000", 1), ("two-planes-of-100000", 2)):
            measured = samples(host, "policy_change", cgroup, PLANE, options.rounds, planes)
            idle += measured["stall-idle"]
            entries += [entry(case, "change", "ms", measured["change"]),
                        entry(case, "stall", "ms", measured["stall"], statistics.median(measured["stall-idle"]))]
            targets |= {(case, "change"): 300, (case, "stall"): 10}
    entries.append(entry("idle", "stall", "ms", idle))
    show(entries, targets)
    return entries


def hold(end, side, address, port, word, *more):
    holder = end.pipe(BUILD / "tests" / "e2e" / "hold_connections", side, address, port, *more, unit="work")
    if holder.stdout.readline() != f"{word}\n":
        raise RuntimeError(f"hold_connections {side} {port} ended")


def sessions(options):
    with BenchLab("sessions") as lab:
        pair = Pair(lab, "host")
        for i in range(HOLDERS):
            hold(pair.server, "serve", pair.server.ip4, PORT + i, "ready")
        for i in range(HOLDERS):
            hold(pair.client, "connect", pair.server.ip4, PORT + i, "open", CONNECTIONS // HOLDERS)
        measured = samples(pair.client, "sessions", pair.client.cgroup / "work", pair.server.ip4, PORT, options.rounds)
    case = f"{statistics.median(measured['sockets']):.0f}-sockets"
    entries = [entry(case, "walk", "ms", measured["walk"]),
               entry(case, "walk-and-judge", "ms", measured["walk-and-judge"])]
    show(entries, {(case, "walk-and-judge"): 200})
    return entries
