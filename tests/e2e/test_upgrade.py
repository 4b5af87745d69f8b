# SPDX-License-Identifier: Apache-2.0
"""An agent that finds the programs of a version with other maps: enforcement goes on, and connections live on."""

import subprocess
from pathlib import Path

from harness.lab import wait_until
from test_modes import AppTest, policy
from test_tampering import KNOCK


class Upgrade(AppTest):
    def setUp(self):
        if self.agent.process.poll() is not None:
            self.agent.start()
        self.controller.apply(policy())
        wait_until(self.refused, 20, "enforcement")
        self.agent_id = self.controller.agent_status("app")["agent_id"]
        self.told_before = self.controller.stored_acts(self.agent_id, "taken over without a gap")

    def refused(self):
        return not self.guest.probe("tcp", self.app.ip4, 7001)["ok"]

    def stop_as_another_version(self):
        """What is pinned is of another layout then; its programs go on by the maps that they have."""
        self.agent.stop()
        gate = Path(self.lab.pins()[0]) / "maps" / "bh_gate"  # nothing is handed over from that one
        gate.unlink()
        subprocess.run(["bpftool", "map", "create", str(gate), "type", "array", "key", "4", "value", "4", "entries",
                        "7", "name", "bh_gate"], check=True)

    def await_taken_over(self):
        wait_until(lambda: self.controller.stored_acts(self.agent_id, "taken over without a gap") > self.told_before, 20,
                   f"a record of it\n{self.agent.log()[-2000:]}")
        wait_until(lambda: {folder.name for folder in Path(self.lab.pins()[0]).iterdir()} == {"links", "maps"}, 5,
                   "the other version's pins to go, as all is told")

    def test_the_saved_policy_takes_over(self):
        session = self.guest.hold(self.app.ip4, 7000)
        self.assertTrue(session.exchange()["ok"])
        self.stop_as_another_version()
        knock = self.guest.pipe("python3", "-c", KNOCK, self.app.ip4, "6")
        self.agent.start()
        tries, passed = map(int, knock.stdout.readline().split())
        self.assertGreater(tries, 20)
        self.assertEqual(passed, 0, f"of {tries}")
        self.await_taken_over()
        self.assertTrue(session.exchange()["ok"])
        session.close()
        self.assertTrue(self.refused())
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))

    def test_without_a_saved_policy_the_other_version_goes_on(self):
        self.stop_as_another_version()
        self.controller.stop()
        (self.agent.state / "policy.pb").unlink()
        self.agent.start()
        self.assertTrue(self.refused())
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        self.assertIn("programs of another version", self.agent.local("status").stdout)
        self.controller.start()
        self.await_taken_over()
        self.assertTrue(self.refused())
        self.assertNotIn("programs of another version", self.agent.local("status").stdout)
