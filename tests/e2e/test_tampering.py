# SPDX-License-Identifier: Apache-2.0
"""Root takes away what enforces while the agent runs, and kills the agent while it starts: noticed, put right, told."""

import shutil
import subprocess
import time
from pathlib import Path

from harness.lab import wait_until
from test_modes import AppTest, policy

KNOCK = """
import socket, sys, time
passed = tries = 0
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    tries += 1
    try:
        socket.create_connection((sys.argv[1], 7001), 1).close()
        passed += 1
    except OSError:
        pass
    time.sleep(0.005)
print(tries, passed)
"""


class Tampering(AppTest):
    def setUp(self):
        if self.agent.process.poll() is not None:
            self.agent.start()
            wait_until(lambda: self.controller.agent_status("app").get("connected"), 20, "reconnected")
        self.controller.apply(policy())

    def pins(self) -> Path:
        return Path(self.lab.pins()[0])

    def refused(self):
        return not self.guest.probe("tcp", self.app.ip4, 7001)["ok"]

    def await_told(self, what):
        agent_id = self.controller.agent_status("app")["agent_id"]
        for words in ("datapath.tamper", what):
            wait_until(lambda words=words: self.controller.stored_acts(agent_id, words) > 0, 20, f"a record of {words}")

    def test_a_detached_program_comes_back_and_is_told(self):
        subprocess.run(["bpftool", "link", "detach", "pinned", str(self.pins() / "links" / "sk_lookup")], check=True)
        wait_until(self.refused, 20, "enforcement is back")
        self.await_told("the program at sk_lookup was detached")
        self.assertIn("sk_lookup was detached: put right", self.agent.local("status").stdout)

    def test_pins_that_are_removed_come_back_and_nothing_is_open_meanwhile(self):
        folder = self.pins()
        knock = self.guest.pipe("python3", "-c", KNOCK, self.app.ip4, "5")
        shutil.rmtree(folder)
        wait_until(lambda: (folder / "maps" / "bh_control").exists(), 20, "pinned again")
        tries, passed = map(int, knock.stdout.readline().split())
        self.assertGreater(tries, 20)
        self.assertEqual(passed, 0, f"of {tries}")
        self.await_told("were removed or replaced")
        self.agent.kill()
        self.assertTrue(self.refused())

    def test_killed_at_every_moment_of_its_start(self):
        self.agent.kill()
        knock = self.guest.pipe("python3", "-c", KNOCK, self.app.ip4, "15")
        for step in range(15):
            process = self.app.start(*self.agent.argv, daemon=True, log="crash-loop.log")
            time.sleep(0.02 + 0.06 * step)
            process.kill()
            process.wait()
        tries, passed = map(int, knock.stdout.readline().split())
        self.assertGreater(tries, 50)
        self.assertEqual(passed, 0, f"of {tries}")
        self.agent.start(timeout=30)
        self.assertTrue(self.refused())
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
