# SPDX-License-Identifier: Apache-2.0
"""flat: the same traffic under ten rules and ten peers, and under a million of each."""

import functools

from datapath import Case, measure
from pair import PORT, bench_program

SIZES = [(10, 10), (10_000, 100_000), (1_000_000, 1_000_000)]  # the first is what the others are compared with


class Sized(Case):
    """Both ends enforce planes of a stated size."""

    @staticmethod
    def named(entries, peers):
        return f"{entries}-{peers}"

    def __init__(self, lab, entries, peers):
        super().__init__(lab, self.named(entries, peers))
        self.entries, self.peers = entries, peers

    def prepare(self):
        for end, other in (self.pair.ends(), reversed(self.pair.ends())):
            guard = end.pipe(bench_program("guard"), end.cgroup / "work", self.entries, self.peers, other.ip4, PORT,
                             daemon=True)
            if guard.stdout.readline() != "ready\n":
                raise RuntimeError(f"{self.name}: the planes could not be put in force")


def run(options):
    makers = [functools.partial(Sized, entries=entries, peers=peers) for entries, peers in SIZES]
    table = measure("flat", makers, options.metrics or ["crr", "upps"], options, baseline=Sized.named(*SIZES[0]))
    table.print({(Sized.named(*size), metric): .98 for size in SIZES[1:] for metric in ("crr", "upps")})
    return table.entries()
