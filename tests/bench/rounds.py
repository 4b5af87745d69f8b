# SPDX-License-Identifier: Apache-2.0
"""Rounds over cases, what they came to, and how it is printed and written."""

import json
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path

UNITS = {"crr": "connections/s", "rr": "round trips/s", "urr": "round trips/s", "urr-sendto": "round trips/s",
         "upps": "packets/s", "upps-sendto": "packets/s", "stream": "bit/s"}


@dataclass
class Samples:
    """What one case did in one metric, round by round; the baseline's are of the same rounds."""
    values: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    def add(self, value, share):
        self.values.append(value)
        self.shares.append(share)


class Table:
    def __init__(self, baseline):
        self.baseline = baseline
        self.samples: dict[tuple[str, str], Samples] = {}

    def add(self, case, metric, value, share=1.0):
        self.samples.setdefault((case, metric), Samples()).add(value, share)

    def cases(self):
        return list(dict.fromkeys(case for case, _ in self.samples))

    def metrics(self):
        return list(dict.fromkeys(metric for _, metric in self.samples))

    def entry(self, case, metric) -> dict:
        """The ratio is the median of the rounds' ratios: what disturbs a round disturbs both of its parts."""
        own, base = self.samples[case, metric], self.samples[self.baseline, metric]
        ratios = sorted(value / other for value, other in zip(own.values, base.values))
        quarter = len(ratios) // 4
        return {"case": case, "metric": metric, "unit": UNITS.get(metric, ""), "value": statistics.median(own.values),
                "baseline": statistics.median(base.values), "ratio": round(statistics.median(ratios), 4),
                "rounds": len(own.values), "ratio_low": round(ratios[quarter], 4),
                "ratio_high": round(ratios[-1 - quarter], 4), "cpu_share": round(statistics.median(own.shares), 3)}

    def entries(self):
        return [self.entry(case, metric) for case, metric in self.samples]

    def print(self, targets=None):
        """Rows are cases, columns metrics: ratio to the baseline, and in brackets the quartiles over the rounds."""
        metrics, width = self.metrics(), max(len(case) for case in self.cases())
        print(f"{'':{width}}  " + "".join(f"{metric:>20}" for metric in metrics))
        for case in self.cases():
            cells = []
            for metric in metrics:
                if (case, metric) not in self.samples:
                    cells.append(f"{'':>20}")
                    continue
                entry = self.entry(case, metric)
                if case == self.baseline:
                    cells.append(f"{amount(entry['value']):>20}")
                else:
                    mark = "" if entry["ratio"] >= (targets or {}).get((case, metric), 0) else "!"
                    cells.append(f"{mark + format(entry['ratio'], '.3f'):>8} "
                                 f"[{entry['ratio_low']:.2f}-{entry['ratio_high']:.2f}]".rjust(20))
            print(f"{case:{width}}  " + "".join(cells))
        if any((case, metric) in self.samples for case, metric in targets or {}):
            print("! is below the target: " + ", ".join(f"{case} {metric} {target}" for (case, metric), target
                                                        in targets.items() if (case, metric) in self.samples))


def amount(value) -> str:
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return f"{value:.1f}"


def load_average() -> str:
    return Path("/proc/loadavg").read_text(encoding="ascii").split()[0]


def save(folder: Path, name, entries):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    print(f"written: {path}")


def note(text):
    print(text, file=sys.stderr, flush=True)
