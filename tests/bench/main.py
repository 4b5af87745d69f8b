# SPDX-License-Identifier: Apache-2.0
"""scripts/bench: see there."""

import argparse
import signal
import sys
from pathlib import Path

import boot
import datapath
import flat
import flood
import idle
import kernel
import pair
import programs
import records
import rounds
import soak
import start

BENCHES = {"datapath": datapath.run, "flat": flat.run, "verdict": kernel.verdict, "policy": kernel.policy,
           "sessions": kernel.sessions, "flood": flood.run, "start": start.run, "records": records.run, "idle": idle.run,
           "programs": programs.run}
ONLY_WHEN_NAMED = {"boot": boot.run, "soak": soak.run}


def words(text):
    return text.split(",")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--cpu", type=int, default=0)
    parser.add_argument("--cases", type=words)
    parser.add_argument("--metrics", type=words)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--packages", type=Path)
    options = parser.parse_args()
    known = BENCHES | ONLY_WHEN_NAMED
    for name in options.names:
        if name not in known:
            parser.error(f"no benchmark '{name}'; there are {', '.join(known)}")
    if options.minutes < 1:
        parser.error("--minutes takes a number from 1 on")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    pair.pin_this_process(options.cpu)
    for name in options.names or BENCHES:
        before = rounds.load_average()
        entries = known[name](options)
        print(f"load average {before} before, {rounds.load_average()} after")
        rounds.save(options.output, name, entries)
    return 0


if __name__ == "__main__":
    sys.exit(main())
