# SPDX-License-Identifier: Apache-2.0
"""A change that nobody confirms undoes itself: in the kernel, whoever is dead or cut off by then."""

import json
import time

from harness.bulkhead import Agent, program
from harness.lab import wait_until
from test_modes import NARROW, AppTest, policy

WINDOW = 10  # seconds, the shortest there is


class TrialTest(AppTest):
    def setUp(self):
        if self.agent.process.poll() is not None:
            self.agent.start()
        if self.controller.process.poll() is not None:
            self.controller.start()
        wait_until(lambda: self.controller.agent_status("app").get("connected"), 15, "connected")
        self.controller.ctl("policy", "rollback")  # of what a failed test may have left on trial
        self.confirmed = self.apply(policy())["version"]
        self.assertOpen()

    def apply(self, text, *arguments):
        """What apply says, and when its window is over at the latest, on this machine's clock."""
        reply = json.loads(self.controller.apply(text, "-o", "json", *arguments).stdout)
        self.over = time.monotonic() + WINDOW
        return reply

    def try_out(self, text=None, *arguments):
        return self.apply(text or policy(allow=NARROW), "--confirm", f"{WINDOW}s", *arguments)

    def is_open(self):
        return self.guest.probe("tcp", self.app.ip4, 7000)["ok"]

    def assertOpen(self):
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        self.assertPasses(self.guest.probe("udp", self.app.ip6, 7000))

    def assertClosed(self):
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7000), "ECONNREFUSED")
        self.assertRefused(self.guest.probe("udp", self.app.ip6, 7000), "ECONNREFUSED")

    def history(self):
        return {edition["version"]: edition for edition in
                json.loads(self.controller.ctl("policy", "history", "-o", "json").check().stdout)}

    def acts(self, action):
        return self.controller.stored_acts(self.agent.status()["agent_id"], action)


class CommitConfirm(TrialTest):
    def test_the_kernel_goes_back_with_the_agent_dead(self):
        version = self.try_out()["version"]
        self.agent.kill()
        self.assertClosed()
        wait_until(self.is_open, self.over + 1 - time.monotonic(), "the policy before is in force again", 0.2)
        self.assertOpen()
        self.assertIsNotNone(self.agent.process.poll(), "nobody was there to do it")
        wait_until(lambda: self.history()[version]["status"] == "lapsed", 8, "the controller knows")
        self.assertEqual(self.history()[self.confirmed]["status"], "in-force")

        before = self.controller.stored_acts(self.controller.agent_status("app")["agent_id"], "policy.lapse")
        self.agent.start()
        self.assertOpen()
        status = self.agent.status()
        self.assertEqual((status["policy_version"], status["lapsed_version"]), (self.confirmed, version))
        self.assertIn(f"version {version} was not confirmed", self.agent.local("status").stdout)
        marker = self.guest.probe("tcp", self.app.ip4, 7001)
        self.assertFalse(marker["ok"])
        refused = self.await_record(self.agent.violations, dst__port=7001, verdict="denied")
        self.assertEqual(refused["policy_version"], self.confirmed)
        wait_until(lambda: self.acts("policy.lapse") == before + 1, 10, "an audit record of the lapse")

    def test_the_agent_tells_and_follows(self):
        version = self.try_out(policy(allow=NARROW, sessions="cut"))["version"]
        self.assertClosed()
        status = self.agent.status()
        self.assertEqual(status["trial"]["version"], version)
        self.assertEqual(status["trial"]["back_to"], self.confirmed)
        self.assertLessEqual(status["trial"]["left_ms"], WINDOW * 1000)
        self.assertIn("on trial", self.controller.ctl("agent", "status").stdout)
        self.assertIn(f"version {version} by admin", self.controller.ctl("status").stdout)
        refused = self.await_record(self.agent.violations, dst__port=7000, policy_version=version)
        self.assertEqual(refused["verdict"], "denied")
        wait_until(lambda: self.agent.status()["lapsed_version"] == version, WINDOW + 3, "the lapse")
        self.assertOpen()
        self.assertIsNone(self.agent.status()["trial"])
        wait_until(lambda: self.controller.agent_status("app")["policy_version"] == self.confirmed, 5, "reported")
        wait_until(lambda: self.history()[version]["status"] == "lapsed", 8, "the controller goes back, too")
        self.guest.probe("tcp", self.app.ip4, 7001)
        record = self.await_record(self.agent.violations, dst__port=7001, verdict="denied",
                                   policy_version=self.confirmed)
        self.assertEqual(record["rule"], "app/default-inbound")

    def test_sessions_that_only_the_trial_allowed_are_cut_when_it_is_over(self):
        self.confirmed = self.apply(policy(sessions="cut"))["version"]
        both = "  - {id: both, from: any, service: [tcp/7000-7001]}"
        self.try_out(policy(allow=both, sessions="cut"))
        kept, only_on_trial = self.guest.hold(self.app.ip4, 7000), self.guest.hold(self.app.ip4, 7001)
        self.assertTrue(kept.exchange()["ok"])
        self.assertTrue(only_on_trial.exchange()["ok"])
        wait_until(lambda: not only_on_trial.exchange()["ok"], WINDOW + 4, "the session is cut", 0.3)
        self.assertTrue(kept.exchange()["ok"])
        kept.close()

    def test_confirmed_it_stays(self):
        version = self.try_out()["version"]
        said = self.controller.ctl("policy", "confirm").check().stdout
        self.assertIn(f"version {version} enforced on 1/1 agents", said)
        self.assertIsNone(self.agent.status()["trial"])
        self.assertTrue(self.history()[version]["confirmed"])
        time.sleep(max(0.0, self.over + 3 - time.monotonic()))
        self.assertClosed()
        self.assertEqual(self.history()[version]["status"], "in-force")
        self.agent.kill()
        self.agent.start()
        self.assertClosed()
        self.assertEqual(self.agent.status()["policy_version"], version)

    def test_rolled_back_it_is_over_at_once(self):
        version = self.try_out()["version"]
        self.assertClosed()
        said = self.controller.ctl("policy", "rollback", "-m", "wrong port").check().stdout
        self.assertIn(f"version {self.confirmed} enforced on 1/1 agents", said)
        self.assertOpen()
        self.assertEqual(self.history()[version]["status"], "rolled-back")
        self.assertEqual(self.controller.ctl("policy", "confirm").code, 5)

    def test_an_agent_and_a_controller_that_restart_in_it(self):
        version = self.try_out()["version"]
        self.agent.kill()
        self.controller.kill()
        self.controller.start()
        self.agent.start()
        self.assertEqual(self.agent.status()["trial"]["version"], version)
        wait_until(lambda: self.controller.agent_status("app").get("connected"), 8, "connected again")
        self.assertClosed()
        refused = self.controller.apply(policy(), check=False)
        self.assertEqual(refused.code, 5)
        self.assertIn(f"version {version} of admin is on trial until", refused.stderr)
        self.controller.ctl("policy", "confirm", str(version)).check()
        time.sleep(max(0.0, self.over + 1 - time.monotonic()))
        self.assertClosed()

    def test_an_agent_that_is_away_at_the_confirmation_goes_back_and_gets_it_when_it_returns(self):
        version = self.try_out()["version"]
        self.agent.kill()
        self.controller.ctl("policy", "confirm", "--wait", "0s")
        wait_until(self.is_open, self.over + 1 - time.monotonic(), "back at its deadline", 0.2)
        self.agent.start()
        wait_until(lambda: not self.is_open(), 8, "the confirmed version")
        self.assertClosed()
        self.assertEqual(self.agent.status()["policy_version"], version)
        self.assertIsNone(self.agent.status()["trial"])

    def test_wrong_windows(self):
        path = self.controller.host.dir / "policy.yaml"
        for window in ("9s", "25h", "5", "soon"):
            self.assertEqual(self.controller.ctl("policy", "apply", path, "--confirm", window).code, 2, window)


CONTROLLER_POLICY = """
version: 1
segment: controllers
selector: {role: controller}
mode: enforce
inbound: deny
outbound: allow
allow:
  - {id: in, from: any, service: [%s]}
"""


class AdminLocksHimselfOut(AppTest):
    """An agent guards the controller's own host; the admin works from another one."""

    @classmethod
    def arrange(cls):
        super().arrange()
        host = cls.controller.host
        cls.guard = Agent(host, {"role": "controller"}, cls.controller, cgroup=cls.lab.daemons / host.name,
                          name="guard").enrol()
        wait_until(lambda: cls.controller.agent_status("guard").get("connected"), 10, "guard connected")

    def admin(self, *arguments):
        return self.guest.run(program("bulkheadctl"), "--config", self.controller.state / "admin.yaml", "--controller",
                              self.controller.address, *arguments, daemon=True, timeout=20)

    def apply(self, service, *arguments):
        path = self.guest.dir / "controllers.yaml"
        path.write_text(CONTROLLER_POLICY % service)
        return self.admin("policy", "apply", path, *arguments)

    def test_the_way_in_comes_back_by_itself(self):
        self.apply("tcp/7443").check()
        applied = time.monotonic()
        self.apply("tcp/9", "--confirm", f"{WINDOW}s")  # whatever it can still say
        self.assertEqual(self.admin("policy", "confirm").code, 4, "the admin has cut himself off")
        self.assertLess(time.monotonic() - applied, WINDOW, "in time, had he reached it")
        wait_until(lambda: self.admin("policy", "history").code == 0, WINDOW + 5, "the way in is open again", 0.5)
        wait_until(lambda: [edition["status"] for edition in
                            json.loads(self.admin("policy", "history", "-o", "json").check().stdout)]
                   == ["lapsed", "in-force"], 6, "lapsed, and the one before in force")


del AppTest, TrialTest
