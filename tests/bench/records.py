# SPDX-License-Identifier: Apache-2.0
"""records: processor time that the agents of both ends take to record short connections, beside that of the connections."""

import os
import statistics
import time
from pathlib import Path

import datapath
from pair import BenchLab
from rounds import note

RECORDS_OF_A_CONNECTION = 4  # OPEN and CLOSE, at both ends
TICK = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid):
    """(in user mode, in the kernel), all threads, also those that have ended (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[11]) / TICK, int(fields[12]) / TICK


def totals(agents):
    """(seconds in user mode, seconds in the kernel, connections recorded to their end), of all agents together."""
    def of(agent):
        counters = agent.status()["counters"]
        return *processor_seconds(agent.process.pid), int(counters.get("flows_closed", 0))
    return [sum(column) for column in zip(*map(of, agents))]


def one_round(case, seconds, cpu):
    """Microseconds a connection: (the connection's own, the agents' in user mode, the agents' in the kernel)."""
    before = totals(case.agents)
    rate, share = case.pair.measure("crr", seconds, cpu)
    time.sleep(1)  # for the agents to take the last ones out of the rings
    user, system, closed = (now - then for now, then in zip(totals(case.agents), before))
    connections = closed / len(case.agents)  # what found no room in a ring took no time either
    if connections < rate * seconds * 0.99:
        note(f"the agents recorded {connections:.0f} of more than {rate * seconds:.0f} connections")
    return share * 1e6 / rate, user * 1e6 / connections, system * 1e6 / connections


def run(options):
    with BenchLab("records") as lab:
        case = datapath.Bulkhead(lab, "records", "--guard", "never")
        case.prepare()
        rounds = []
        for number in range(options.rounds):
            note(f"round {number + 1} of {options.rounds}")
            rounds.append(one_round(case, max(options.seconds, 2), options.cpu))
    own = statistics.median(row[0] for row in rounds)
    entries = []
    print(f"{'':28}{'us a connection':>20}{'of its own':>12}")
    for metric, values in (("connection", [row[0] for row in rounds]), ("agents-user", [row[1] for row in rounds]),
                           ("agents-system", [row[2] for row in rounds]),
                           ("agents", [row[1] + row[2] for row in rounds])):
        value = statistics.median(values)
        print(f"{metric:28}{value:9.1f} [{min(values):.1f}-{max(values):.1f}]".ljust(48) + f"{value / own:12.2f}")
        entries.append({"case": "bulkhead-doors", "metric": metric, "unit": "us/connection", "value": round(value, 2),
                        "baseline": round(own, 2), "ratio": round(value / own, 4), "rounds": len(values)})
    print(f"{RECORDS_OF_A_CONNECTION} records a connection: {entries[-1]['value'] / RECORDS_OF_A_CONNECTION:.1f} us each")
    return entries
