# SPDX-License-Identifier: Apache-2.0
"""flat: the same traffic under ten rules and ten peers, and under a million of each."""

from pair import PORT, BenchLab, Pair, bench_program
from datapath import Case, measure
from rounds import note

SIZES = [(10, 10), (10_000, 100_000), (1_000_000, 1_000_000)]  # the first is what the others are compared with


class Sized(Case):
    """Both ends enforce planes of a stated size."""

    def __init__(self, lab, entries, peers):
        super().__init__(lab, f"{entries}-{peers}")
        self.entries, self.peers = entries, peers

    def prepare(self):
        for end, other in (self.pair.ends(), reversed(self.pair.ends())):
            guard = end.pipe(bench_program("guard"), end.cgroup / "work", self.entries, self.peers, other.ip4, PORT,
                             daemon=True)
            if guard.stdout.readline() != "ready\n":
                raise RuntimeError(f"{self.name}: the planes could not be put in force")


def run(options):
    with BenchLab("flat") as lab:
        cases = [Sized(lab, *size) for size in SIZES]
        for case in cases:
            note(f"preparing {case.name} (entries-peers)")
            case.prepare()
        table = measure(cases, options.metrics or ["crr", "upps"], options.rounds, options.seconds, options.cpu,
                        cases[0].name)
    table.print({(case.name, metric): .98 for case in cases[1:] for metric in ("crr", "upps")})
    return table.entries()
