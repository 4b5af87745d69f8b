# SPDX-License-Identifier: Apache-2.0
"""An agent whose scope is the whole host: mounts and cgroups of its own show it the lab's host as all there is."""

import os
import subprocess
from pathlib import Path

from harness import cgroups
from harness.bulkhead import Agent
from harness.case import LabTest
from harness.lab import wait_until

POLICY = """
version: 1
segment: host
selector: {role: host}
mode: enforce
inbound: deny
outbound: allow
"""
# In the agent's mounts its cgroup is the root, at a place that is no cgroup anywhere else; the namespaces of others must
# not be in sight, since it would guard them, too.
ALONE = """
set -eu
host=$1 place=$2 machine=$3
shift 3
echo $$ > "$host/cgroup.procs"
wanted=$(stat -c %i "$host")
export wanted place machine
exec unshare --mount --propagation private --cgroup bash -euc '
  umount -l "$machine"
  mkdir -p "$place"
  mount -t cgroup2 none "$place"
  test "$(stat -c %i "$place")" = "$wanted"  # never the root of the machine
  test "$(grep -c " - cgroup2 " /proc/self/mountinfo)" = 1
  mount -t bpf none /sys/fs/bpf
  while other=$(grep -m 1 " - nsfs .* *" /proc/self/mountinfo | cut -d" " -f5); do
    test -n "$other" || break
    umount -l "$other"
  done
  test -z "$(grep " - nsfs " /proc/self/mountinfo)"
  mount -t tmpfs none /run/netns
  exec "$@"
' "$0" "$@"
"""
PLACES = 256


class WholeHost(LabTest):
    @classmethod
    def arrange(cls):
        cls.host = cls.lab.add_host("host")
        policies = cls.host.dir / "policies"
        policies.mkdir()
        (policies / "policy.yaml").write_text(POLICY)
        place = cls.host.dir / "cgroup"
        cls.agent = Agent(cls.host, {"role": "host"}, policy_dir=policies, cgroup=place, as_unit=False)
        cls.agent.detach = lambda: None  # what is pinned goes with its mounts
        cls.agent.argv = ["bash", "-c", ALONE, "alone", cls.host.cgroup, place, cgroups.root(), *cls.agent.argv]
        cls.agent.start(60)

    def as_agent_sees_it(self, command):
        done = subprocess.run(["nsenter", "--target", str(self.agent.process.pid), "--mount", "bash", "-euc", command],
                              capture_output=True, text=True, check=True)
        return done.stdout.split()

    def doors(self):
        """Inode numbers of the namespaces in which one stands."""
        pins = self.as_agent_sees_it("ls /sys/fs/bpf/bulkhead/*/links")
        return {int(pin.rpartition("_")[2]) for pin in pins if pin.startswith("sk_lookup_")}

    def mount(self, *names):
        self.addCleanup(self.unmount, *names)
        return {int(inode) for inode in self.as_agent_sees_it(
            f"for name in {' '.join(names)}; do ip netns add $name; stat -Lc %i /run/netns/$name; done")}

    def unmount(self, *names):
        self.as_agent_sees_it(
            f"for name in {' '.join(names)}; do if [ -e /run/netns/$name ]; then ip netns del $name; fi; done")
        wait_until(lambda: not self.doors(), 10, "the doors to be forgotten")

    def test_a_mounted_namespace_has_a_door_before_somebody_is_in_it(self):
        inode, = self.mount("blue")
        wait_until(lambda: self.doors() == {inode}, what="the door")
        self.as_agent_sees_it("nsenter --net=/run/netns/blue ip link set lo up")
        self.as_agent_sees_it("umount /run/netns/blue && rm /run/netns/blue")
        wait_until(lambda: not self.doors(), what="the door to be forgotten")

    def test_where_nothing_runs_takes_no_place_from_where_something_does(self):
        empty = self.mount(*(f"e{number}" for number in range(PLACES // 2 + 10)))
        wait_until(lambda: len(self.doors()) == PLACES // 2, 15, "half of the places to be taken")
        self.assertLessEqual(self.doors(), empty)
        processes = [self.host.start("unshare", "--net", "sleep", "120", unit="containers.scope")
                     for _ in range(PLACES // 2 + 10)]
        self.addCleanup(lambda: [process.wait() for process in processes])
        self.addCleanup(lambda: [process.kill() for process in processes])

        def inhabited():
            return {os.stat(f"/proc/{process.pid}/ns/net").st_ino for process in processes}

        wait_until(lambda: len(inhabited()) == len(processes), 15, "all of them to have one")
        wait_until(lambda: inhabited() <= self.doors(), 15, "doors where something runs")
        self.assertEqual(len(self.doors()), PLACES)
