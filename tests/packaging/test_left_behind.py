# SPDX-License-Identifier: Apache-2.0
"""What tests/vm looks for after a purge, looked for here: a test that finds nothing anywhere finds nothing in a machine."""
import subprocess
import sys
import unittest

sys.dont_write_bytecode = True
from stub_packages import TREE, Root, moved_to

sys.path.insert(0, str(TREE / "tests/vm"))
import debs


class LeftBehind(unittest.TestCase):
    def setUp(self):
        self.root = Root(self)
        self.root.program("tc", "echo qdisc noqueue 0: dev lo root refcnt 2")
        self.root.program("bpftool", "echo 3: cgroup_device name sd_devices")

    def check(self, command):
        """In place of the machine's."""
        done = subprocess.run(["sh", "-c", moved_to(self.root.path, command)], stdout=subprocess.PIPE, text=True, check=True,
                              env=self.root.environment())  # fmt: skip
        return done.stdout

    def left(self):
        return debs.left_behind(self).replace(f"{self.root.path}/", "").splitlines()

    def test_nothing(self):
        self.assertEqual(self.left(), [])

    def test_without_tc(self):
        self.root.program("tc", "exit 127")
        self.assertEqual(self.left(), [])

    def test_what_a_test_has_put_there_is_not_the_packages(self):
        (self.root.path / "etc/bulkhead/policy").mkdir(parents=True)
        self.assertEqual(self.left(), [])

    def test_each(self):
        for path in ("sys/fs/bpf/bulkhead", "run/bulkhead", "var/lib/bulkhead", "var/lib/bulkhead.damaged",
                     "var/lib/bulkhead-controller", "etc/bulkhead", "etc/bulkhead/agent.yaml", "etc/bulkhead/join-token",
                     "etc/bulkhead/controller.yaml.dpkg-old"):  # fmt: skip
            with self.subTest(path):
                self.setUp()
                (self.root.path / path).mkdir(parents=True)
                self.assertEqual(self.left(), [path])

    def test_programs_and_queueing_disciplines(self):
        self.root.program("bpftool", "echo 7: sched_cls name bh_guard_in tag a0")
        self.root.program("tc", "echo qdisc clsact ffff: dev eth0 parent ffff:fff1")
        self.assertEqual(len(self.left()), 2)


if __name__ == "__main__":
    unittest.main()
