# SPDX-License-Identifier: Apache-2.0
"""An agent without a controller: its policy is a folder."""

import re
import signal

from harness.bulkhead import Agent
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import policy


class Standalone(LabTest):
    @classmethod
    def arrange(cls):
        cls.app, cls.guest = cls.lab.add_host("app"), cls.lab.add_host("guest", 50)
        cls.policies = cls.app.dir / "policies"
        cls.policies.mkdir()
        cls.file = cls.policies / "app.yaml"
        cls.write(policy())
        cls.agent = Agent(cls.app, {"role": "app"}, policy_dir=cls.policies).start()
        for port in (7000, 7001):
            cls.app.serve("tcp", port)

    @classmethod
    def write(cls, text):
        """As an editor saves: a new file takes the name."""
        fresh = cls.policies / ".app.yaml.new"
        fresh.write_text(text)
        fresh.rename(cls.file)

    def setUp(self):
        self.write(policy())
        self.becomes(7001, False)

    def becomes(self, port, passes, timeout=5.0):
        wait_until(lambda: self.guest.probe("tcp", self.app.ip4, port)["ok"] == passes, timeout,
                   f"port {port} {'passes' if passes else 'is refused'}\n{self.agent.log()[-2000:]}", 0.05)

    def test_enforces_from_the_folder(self):
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        self.await_record(self.agent.violations, dst__port=7001, verdict="denied", rule="app/default-inbound")

    def test_a_change_is_taken_up(self):
        self.write(policy(allow="  - {id: open, from: any, service: [tcp/7001]}"))
        self.becomes(7001, True)
        self.becomes(7000, False)

    def test_sighup_reloads(self):
        self.write(policy(mode="test"))
        self.agent.send(signal.SIGHUP)
        self.becomes(7001, True)

    def test_a_second_file_counts(self):
        second = self.policies / "more.yaml"
        self.addCleanup(lambda: second.unlink(missing_ok=True))
        second.write_text(policy(allow="  - {id: also, from: any, service: [tcp/7001]}")
                          .replace("segment: app", "segment: more"))
        self.becomes(7001, True)
        second.unlink()
        self.becomes(7001, False)

    def test_a_bad_file_keeps_the_last_good_policy_and_says_why(self):
        bad = policy(allow="  - {id: open, from: any, service: [tcp/70000]}")
        self.write(bad)
        self.agent.send(signal.SIGHUP)
        wait_until(lambda: "70000" in self.agent.status().get("refusal", ""), 5, "the refusal is in the status", 0.1)
        self.assertRegex(self.agent.log(), r"app\.yaml:\d+:\d+")
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))

    def test_a_folder_that_becomes_empty_keeps_the_last_good_policy(self):
        self.file.unlink()
        self.agent.send(signal.SIGHUP)
        wait_until(lambda: self.agent.status().get("refusal"), 5, "the refusal is in the status", 0.1)
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))

    def test_restart_with_a_bad_file_keeps_enforcing(self):
        self.agent.stop()
        self.write("version: 1\nnonsense: true\n")
        try:
            self.agent.start()
            self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
            self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        finally:
            if self.agent.process.poll() is not None:
                self.write(policy())
                self.agent.start()

    def test_what_changed_while_it_was_down_is_in_force_when_it_is_ready(self):
        for after in ("a restart", "a boot"):
            with self.subTest(after=after):
                self.write(policy())
                self.becomes(7001, False)
                before = max(map(int, re.findall(r"policy version (\d+)", self.agent.log())))
                self.agent.stop()
                if after == "a boot":
                    self.app.run(*self.agent.argv, "--detach", daemon=True).check()
                self.write(policy(allow="  - {id: open, from: any, service: [tcp/7001]}"))
                self.agent.start()
                ready = re.findall(r"running: policy version (\d+)", self.agent.log())[-1]
                self.assertGreater(int(ready), before, self.agent.log()[-2000:])
                self.becomes(7001, True)

    def test_check_judges_a_configuration_without_touching_anything(self):
        before = self.agent.status()["generation"]
        good = self.app.run(*self.agent.argv, "--check", daemon=True)
        self.assertEqual(good.code, 0, good)
        bad = self.app.dir / "bad-agent.yaml"
        bad.write_text(self.agent.config.read_text() + "speling: 1\n")
        result = self.app.run(self.agent.argv[0], "--config", bad, "--check", daemon=True)
        self.assertEqual(result.code, 3, result)
        self.assertRegex(result.stderr, r"bad-agent\.yaml:\d+:\d+.*speling")
        self.assertEqual(self.agent.status()["generation"], before)
