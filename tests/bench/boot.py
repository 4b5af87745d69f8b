# SPDX-License-Identifier: Apache-2.0
"""boot: what the packaged agent adds to a boot of Debian, with its last policy on disk, on this machine's own kernel."""

import os
import shutil
import sys
from pathlib import Path

import policies
from container import Container
from kernel import entry, show
from pair import PORT, BenchLab, End
from rounds import note

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "vm"))
import debs  # noqa: E402  pylint: disable=wrong-import-position
import images  # noqa: E402  pylint: disable=wrong-import-position

RELEASE = "bookworm"
SIZES = {"without": 0, "10-rules": 10, "10000-rules": 10_000}
BASELINE = "without"
LIMIT = 300  # ms
AGENT = "bulkheadd.service"


def host(lab, case, rules, cache, packages, folder, outside):
    """A container that is ready to boot as it will on every day but its first."""
    base = images.base_of(cache, RELEASE)
    container = Container(lab.cgroup / case, base, folder / case, outside)
    if rules:
        name = (base / "etc/hostname").read_text(encoding="ascii").strip()
        config = container.upper / "etc/bulkhead"
        (config / "policy").mkdir(parents=True)
        (config / "policy/bench.yaml").write_text(policies.bulkhead_policy(name, rules, rules, "10.99.0.2", PORT))
        (config / "agent.env").write_text('BULKHEAD_OPTIONS="--policy-dir /etc/bulkhead/policy"\n')
        (config / "policy/bench.yaml").chmod(0o600)
        store = container.upper / "var/tmp/packages"
        store.mkdir(parents=True)
        wanted = [*images.dependencies_of(cache, RELEASE).glob("*.deb"),
                  *(deb for deb in debs.of(packages) if deb.name.startswith("bulkhead-agent_"))]  # fmt: skip
        for package in wanted:
            (store / package.name).write_bytes(package.read_bytes())
        container.run_in_image("DEBIAN_FRONTEND=noninteractive dpkg --install /var/tmp/packages/*.deb")
    container.boot()  # reads the folder, saves the policy
    if rules:
        if container.run("systemctl", "is-active", AGENT).returncode != 0:
            say = container.run("systemctl", "status", "--no-pager", "--full", AGENT).stdout
            log = container.run("journalctl", "--no-pager").stdout
            raise RuntimeError(f"{case}: the agent does not run: {say}{log}")
    container.end()
    return container


def measure(container, rules):
    container.boot()
    try:
        found = {"network": container.milliseconds("network.target", "ActiveEnterTimestampMonotonic"),
                 "finished": container.milliseconds("", "FinishTimestampMonotonic")}
        if rules:
            found |= {"agent started": container.milliseconds(AGENT, "InactiveExitTimestampMonotonic"),
                      "agent ready": container.milliseconds(AGENT, "ActiveEnterTimestampMonotonic")}
        return found
    finally:
        container.end()


def run(options):
    if options.packages is None:
        raise SystemExit("scripts/bench: boot needs the packages: --packages DIR, as scripts/package has made them")
    pinned = os.sched_getaffinity(0)
    os.sched_setaffinity(0, range(os.cpu_count()))  # nothing is measured beside it
    cache = Path(os.environ.get("BULKHEAD_VM_CACHE", ROOT / "build/vm"))
    cache.mkdir(parents=True, exist_ok=True)
    found = {}
    # On a disk, as a host has it; what a killed run left is removed first.
    folder = options.output.resolve() / "boot"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        measure_all(options, cache, folder, found)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.sched_setaffinity(0, pinned)
    return report(found)


def measure_all(options, cache, folder, found):
    with images.exclusively(cache), BenchLab("boot") as lab:
        images.get_base(cache, RELEASE)
        images.get_dependencies(cache, RELEASE, options.packages)
        outside = End(lab, "outside", 1).netns
        containers = {case: host(lab, case, rules, cache, options.packages, folder, outside)
                      for case, rules in SIZES.items()}  # fmt: skip
        for i in range(options.rounds):
            note(f"round {i + 1} of {options.rounds}")
            for case, container in containers.items():
                for metric, value in measure(container, SIZES[case]).items():
                    found.setdefault((case, metric), []).append(value)


def report(found):
    entries = [entry(case, metric, "ms", values) for (case, metric), values in found.items()]
    for case in SIZES:
        if case != BASELINE:
            for metric in ("network", "finished"):
                added = [own - base for own, base in zip(found[case, metric], found[BASELINE, metric])]
                entries.append(entry(case, f"adds to {metric}", "ms", added))
    show(entries, {(case, "adds to finished"): LIMIT for case in SIZES})
    return entries
