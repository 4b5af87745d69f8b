# SPDX-License-Identifier: Apache-2.0
"""A host whose state folder or kernel is not as it should be: reachable, protected where that can be, and it says so."""

import contextlib
import hashlib
import shutil

from harness.bulkhead import Agent
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import AppTest, policy

NARROW = "  - {id: first, from: any, service: [tcp/7000]}"
WIDE = "  - {id: second, from: any, service: [tcp/7000, tcp/7001]}"


class BrokenState(AppTest):
    """Each test begins with two policies in a row, the second of which opens a second port; then the controller is away."""

    def setUp(self):
        if self.agent.process.poll() is None:
            self.agent.stop()
        self.agent.detach()
        shutil.rmtree(self.agent.state, ignore_errors=True)
        if self.controller.process.poll() is not None:
            self.controller.start()
        self.agent.enrol()
        wait_until(lambda: self.controller.agent_status("app").get("connected"), 10, "connected")
        self.controller.apply(policy(allow=NARROW))
        self.controller.apply(policy(allow=WIDE))
        self.controller.stop()
        self.agent.stop()

    @contextlib.contextmanager
    def started_by(self, *wrapper):
        plain = self.agent.argv
        self.agent.argv = [*map(str, wrapper), *plain]
        try:
            yield self.agent.start()
        finally:
            self.agent.argv = plain
            self.agent.stop()

    def reboot(self):
        """As far as the kernel's memory goes."""
        self.agent.detach().check()
        self.assertEqual(self.lab.pins(), [])

    def enforced(self, second_port):
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        outcome = self.guest.probe("tcp", self.app.ip4, 7001)
        if second_port:
            self.assertPasses(outcome)
        else:
            self.assertRefused(outcome, "ECONNREFUSED")
        self.assertRefused(self.guest.probe("udp", self.app.ip4, 7001), "ECONNREFUSED")

    def read_only(self):
        """The state folder as on a disk that was mounted read-only, in a mount namespace that goes with the agent."""
        return ("unshare", "-m", "sh", "-c", 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"',
                self.agent.state)

    def test_a_damaged_policy_gives_way_to_the_one_before(self):
        self.reboot()
        (self.agent.state / "policy.pb").write_bytes(b"\0" * 4096)
        with self.started_by():
            self.enforced(second_port=False)
            self.assertIn("the one before it", " ".join(self.agent.status()["warnings"]))
            self.assertTrue((self.agent.state / "policy.pb.damaged").exists())
            self.controller.start()  # which gives the newer one again
            wait_until(lambda: self.guest.probe("tcp", self.app.ip4, 7001)["ok"], 20, "the newest policy in force")
            self.assertEqual(self.agent.status()["warnings"], [])
            self.controller.stop()

    def test_a_policy_that_was_changed_with_its_checksum_gives_way_to_the_one_before(self):
        self.reboot()
        path = self.agent.state / "policy.pb"
        body = path.read_bytes()[:-32]
        self.assertIn(b"/second", body)
        body = body.replace(b"/second", b"/secund")
        path.write_bytes(body + hashlib.sha256(body).digest())
        with self.started_by():
            self.enforced(second_port=False)
            warnings = " ".join(self.agent.status()["warnings"])
            self.assertIn("not signed by the authority", warnings)
            self.assertIn("the one before it", warnings)

    def test_without_the_certificate_that_verifies_it_the_policy_is_enforced_all_the_same(self):
        self.reboot()
        (self.agent.state / "ca.pem").unlink()
        with self.started_by():
            self.enforced(second_port=True)
            self.assertIn("its signature cannot be verified", " ".join(self.agent.status()["warnings"]))

    def test_rubbish_in_every_file_neither_stops_the_agent_nor_the_kernel(self):
        for path in self.agent.state.rglob("*"):
            if path.is_file():
                path.write_bytes(b"rubbish")
        with self.started_by():
            self.enforced(second_port=True)  # what is pinned goes on
            warnings = " ".join(self.agent.status()["warnings"])
            self.assertIn("policy.pb", warnings)
            self.assertIn("agent.pem", warnings)
            self.assertGreater(len(self.agent.records()), 0)  # the spool works

    def test_lost_credentials_do_not_drop_the_policy_at_a_boot(self):
        self.reboot()
        (self.agent.state / "agent.pem").unlink()
        with self.started_by():
            self.enforced(second_port=True)
            self.assertIn("not enrolled", " ".join(self.agent.status()["warnings"]))

    def test_lost_credentials_do_not_lift_a_quarantine_at_a_boot(self):
        self.reboot()
        for name in ("agent.pem", "policy.pb", "policy.previous.pb"):
            (self.agent.state / name).unlink()
        (self.agent.state / "quarantine.pb").write_bytes(b"rubbish")  # what it said is lost, that it stood is not
        with self.started_by():
            self.assertFalse(self.guest.probe("tcp", self.app.ip4, 7000)["ok"])
            self.assertIn("not enrolled", " ".join(self.agent.status()["warnings"]))

    def test_a_token_that_is_refused_does_not_end_an_agent_that_enforces(self):
        self.reboot()
        self.controller.start()
        token = self.controller.token()
        bad = token[:20] + ("B" if token[20] == "A" else "A") + token[21:]  # in the middle of the secret
        (self.agent.state / "agent.pem").write_bytes(b"rubbish")
        with self.started_by("env", f"BULKHEAD_JOIN={bad}"):
            wait_until(lambda: "refuses to enrol" in " ".join(self.agent.status()["warnings"]), 20, "a warning")
            self.enforced(second_port=True)
        with self.started_by("env", f"BULKHEAD_JOIN={token}"):  # a good one mends it
            wait_until(lambda: self.controller.agent_status("app").get("connected"), 20, "connected")
            self.assertEqual(self.agent.status()["warnings"], [])
            self.controller.stop()

    def test_a_read_only_disk_at_boot(self):
        self.reboot()
        with self.started_by(*self.read_only()):
            self.enforced(second_port=True)
            self.assertIn("Read-only file system", " ".join(self.agent.status()["warnings"]))
            self.assertIn("Read-only file system", self.agent.log())

    def test_a_start_that_fails_says_what_goes_on(self):
        bare = ("setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin")
        failed = self.app.run(*bare, *self.agent.argv, daemon=True)
        self.assertEqual(failed.code, 1, failed)
        self.assertIn("goes on enforcing", failed.stderr)
        self.enforced(second_port=True)
        self.reboot()
        failed = self.app.run(*bare, *self.agent.argv, daemon=True)
        self.assertEqual(failed.code, 1, failed)
        self.assertIn("reachable, and not protected", failed.stderr)
        self.assertPasses(self.guest.probe("udp", self.app.ip4, 7001))


class FullDisk(LabTest):
    @classmethod
    def arrange(cls):
        cls.app, cls.guest = cls.lab.add_host("app"), cls.lab.add_host("guest", 50)
        for port in (7000, 7001):
            cls.app.serve("tcp", port)

    def test_a_first_start_on_a_full_disk_enforces_the_folder(self):
        policies = self.app.dir / "policies"
        policies.mkdir()
        (policies / "all.yaml").write_text(policy(allow=NARROW))
        agent = Agent(self.app, {"role": "app"}, policy_dir=policies)
        agent.state.mkdir()
        agent.argv = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=16k none "$0" && '
                      '{ cat /dev/zero > "$0/filler" 2>/dev/null || true; } && exec "$@"', agent.state, *agent.argv]
        agent.start()
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.assertIn("cannot be saved", " ".join(agent.status()["warnings"]))
