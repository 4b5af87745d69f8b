# SPDX-License-Identifier: Apache-2.0
"""A host that is cut off but for its failsafes, by the controller or on the spot."""

import json
import time

from harness.bulkhead import deploy
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import policy


class Quarantine(LabTest):
    @classmethod
    def arrange(cls):
        cls.controller, cls.agents = deploy(cls.lab, {"app": {"role": "app"}}, management=["10.77.0.50/32"])
        cls.agent = cls.agents["app"]
        cls.app = cls.agent.host
        cls.guest = cls.lab.add_host("guest", 50)
        for port in (22, 7000):
            cls.app.serve("tcp", port)
        cls.app.serve("udp", 7000)
        cls.guest.serve("tcp", 7005)

    def setUp(self):
        if self.agent.process.poll() is not None:
            self.agent.start()
        if self.controller.process.poll() is not None:
            self.controller.start()
        wait_until(lambda: self.controller.agent_status("app").get("connected"), 15, "connected")
        self.agent.local("workload", "release", "--force")
        self.controller.ctl("workload", "release", "app")
        self.controller.apply(policy("test"), "--force")
        self.assertFree()

    def assertFree(self):
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        self.assertPasses(self.guest.probe("udp-sendto", self.app.ip6, 7000))
        self.assertPasses(self.app.probe("tcp", self.guest.ip4, 7005))

    def assertCutOff(self):
        # Packets are dropped, and nobody is told but the other ends of sessions that are cut.
        self.assertFalse(self.guest.probe("tcp", self.app.ip4, 7000)["ok"])
        self.assertFalse(self.guest.probe("udp-sendto", self.app.ip6, 7000)["ok"])
        self.assertRefused(self.app.probe("tcp", self.guest.ip4, 7005), "EPERM")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 22))

    def workload(self):
        return json.loads(self.controller.ctl("workload", "show", "app", "-o", "json").check().stdout)

    def test_cuts_all_but_failsafes_also_in_test_mode_and_says_so(self):
        session, ssh = self.guest.hold(self.app.ip4, 7000), self.guest.hold(self.app.ip4, 22)
        outbound = self.app.hold(self.guest.ip4, 7005)
        for probe in (session, ssh, outbound):
            self.assertTrue(probe.exchange()["ok"])
        began = time.monotonic()
        said = self.controller.ctl("workload", "quarantine", "app", "--reason", "incident 7").check()
        self.assertIn("by admin", said.stdout)
        self.assertFalse(session.exchange()["ok"])
        self.assertFalse(outbound.exchange()["ok"])
        self.assertLess(time.monotonic() - began, 3, "at once, not by a time-out")
        self.assertTrue(ssh.exchange()["ok"])
        self.assertCutOff()
        record = self.await_record(self.agent.violations, dst__port=7000, verdict="denied", reason="quarantine")
        self.assertEqual(record["direction"], "inbound")
        self.assertTrue(self.workload()["quarantine"]["in_force"])
        self.assertIn("QUARANTINE", self.agent.local("status").stdout)
        self.assertIn("in quarantine", self.controller.ctl("agent", "status").stdout)
        self.controller.apply(policy("test", outbound="deny"))
        self.assertCutOff()
        self.controller.ctl("workload", "release", "app").check()
        self.assertTrue(ssh.exchange()["ok"])
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        for probe in (session, ssh, outbound):
            probe.close()

    def test_outlives_restarts_and_reaches_an_agent_that_was_away(self):
        self.agent.stop()
        late = self.controller.ctl("workload", "quarantine", "app")
        self.assertEqual(late.code, 1)
        self.assertIn("when it connects", late.stderr)
        self.controller.stop()
        self.controller.start()
        self.agent.start()
        wait_until(lambda: self.workload()["quarantine"]["in_force"], 10, "in force")
        self.assertCutOff()
        self.agent.kill()
        self.controller.kill()
        self.assertCutOff()
        self.agent.start()
        self.assertCutOff()
        self.controller.start()
        self.controller.ctl("workload", "release", "app", "--reason", "mended")
        wait_until(lambda: self.agent.status()["quarantine"] is None, 15, "released")
        self.assertFree()

    def test_ends_by_itself_while_the_controller_is_away(self):
        self.controller.ctl("workload", "quarantine", "app", "--for", "10s").check()
        self.controller.kill()
        self.assertCutOff()
        wait_until(lambda: self.agent.status()["quarantine"] is None, 13, "its time is over", 0.3)
        self.assertFree()
        self.controller.start()
        wait_until(lambda: self.workload()["quarantine"] is None, 10, "over for the controller, too")

    def test_on_the_spot(self):
        self.agent.local("workload", "quarantine", "--reason", "odd traffic").check()
        self.assertCutOff()
        held = self.controller.ctl("workload", "release", "app")
        self.assertEqual(held.code, 1)
        self.assertIn("on the host itself", held.stderr)
        self.assertCutOff()
        self.agent.local("workload", "release").check()
        self.assertFree()
        self.controller.ctl("workload", "quarantine", "app").check()
        self.assertEqual(self.agent.local("workload", "release").code, 5)
        self.assertCutOff()

    def test_comes_before_a_trial_and_leaves_it_its_time(self):
        self.controller.apply(policy("enforce", allow="  - {id: other, from: any, service: [tcp/9]}"), "--confirm",
                              "20s")
        self.controller.ctl("workload", "quarantine", "app").check()
        self.assertCutOff()
        self.controller.ctl("workload", "release", "app").check()
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7000), "ECONNREFUSED")
        self.assertIsNotNone(self.agent.status()["trial"])
        self.controller.ctl("policy", "rollback").check()
        self.assertFree()
        agent_id = self.agent.status()["agent_id"]
        for act in ("quarantine.begin", "quarantine.end", "policy.rollback"):
            wait_until(lambda act=act: self.controller.stored_acts(agent_id, act) > 0, 10, f"an audit record {act}")
