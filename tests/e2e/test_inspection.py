# SPDX-License-Identifier: Apache-2.0
"""What an admin asks of a host: what its kernel holds, what is wrong with it, and all of it in one file."""

import json
import tarfile

from harness.bulkhead import Agent, program
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import policy


class Inspection(LabTest):
    @classmethod
    def arrange(cls):
        cls.app, cls.guest = cls.lab.add_host("app"), cls.lab.add_host("guest", 50)
        folder = cls.app.dir / "policies"
        folder.mkdir()
        (folder / "app.yaml").write_text(policy())
        cls.agent = Agent(cls.app, {"role": "app"}, policy_dir=folder).start()
        cls.app.serve("tcp", 7000)

    def config(self):
        return self.agent.argv[self.agent.argv.index("--config") + 1]

    def test_maps_say_in_words_what_the_kernel_holds(self):
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        told = self.agent.local("maps", "--limit", "0").check().stdout
        for words in ("active plane: slot", "active inbound default: deny (segment app)", "listeners (", "denials (0)"):
            self.assertIn(words, told)
        tables = self.agent.local("maps", "listeners").check().stdout
        self.assertIn(":7000", tables)
        self.assertNotIn("planes (", tables)

    def test_maps_of_a_table_that_is_not_there(self):
        asked = self.agent.local("maps", "routes")
        self.assertEqual(asked.code, 2)
        self.assertIn("routes", asked.stderr)

    def test_doctor_finds_the_agent_that_is_there_and_the_one_that_is_not(self):
        def asked():
            text = self.app.run(program("bulkheadctl"), "doctor", "--socket", self.agent.socket, "--agent-config",
                                self.config(), "-o", "json", daemon=True)
            return text.code, {one["check"]: one["result"] for one in json.loads(text.stdout)}

        self.assertEqual(asked()[1]["agent"], "ok")
        self.agent.stop()
        code, found = asked()
        self.agent.start()
        self.assertEqual((code, found["agent"]), (1, "MISSING"))

    def test_support_bundle_has_what_is_needed_and_no_secret(self):
        file = self.app.dir / "bundle.tar.gz"
        self.addCleanup(lambda: file.unlink(missing_ok=True))
        self.agent.local("agent", "support-bundle", "--file", file, "--agent-config", self.config()).check()
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        with tarfile.open(file) as bundle:
            texts = {one.name.split("/", 1)[1]: bundle.extractfile(one).read().decode() for one in bundle.getmembers()}
        for name in ("MANIFEST.txt", "versions.txt", "kernel.txt", "doctor.txt", "status.json", "maps.json", "pins.txt"):
            self.assertTrue(texts.get(name), name)
        for name in ("status.json", "maps.json"):
            json.loads(texts[name])
        self.assertNotIn("PRIVATE KEY", "".join(texts.values()))
        again = self.agent.local("agent", "support-bundle", "--file", file, "--agent-config", self.config())
        self.assertNotEqual(again.code, 0, "it overwrites nothing")
