# SPDX-License-Identifier: Apache-2.0
"""bulkhead-setup: one command for the controller's host, one for each next host."""

import json
import re

from harness.case import LabTest
from harness.services import Services

TOKEN = "bulkhead-join-1.c2VjcmV0LXNlY3JldA." + "a" * 64 + "\n"


class Setup(LabTest):
    @classmethod
    def arrange(cls):
        cls.first = Services(cls.lab.add_host("ctl", 1), ["bulkhead-controller", "bulkheadd", "bulkheadctl"])
        cls.second = Services(cls.lab.add_host("web"), ["bulkheadd", "bulkheadctl"])
        cls.made = cls.first.setup("controller", "--name", cls.first.host.ip4, "--label", "role=ctl").check()

    def agents(self):
        return {agent["name"]: agent for agent in json.loads(self.first.ctl("agent", "status", "-o", "json").check().stdout)}

    def test_one_command_makes_a_controller_and_its_agent(self):
        self.assertTrue(self.agents()["ctl"]["connected"], self.made)
        self.assertEqual(self.made.stderr, "", "nothing beside what there is to do")
        self.assertFalse((self.first.etc / "join-token").exists())
        self.assertIn("role=ctl", self.first.ctl("workload", "list").check().stdout)

    def test_the_printed_command_enrols_the_next_host(self):
        printed = re.search(r"echo (\S+) \| sudo bulkhead-setup join (\S+)", self.made.stdout)
        joined = self.second.setup("join", printed[2], "--management", "192.0.2.0/24", "--management", "2001:db8::/32",
                                   stdin=printed[1] + "\n").check()
        self.assertIn("Nothing is enforced", joined.stdout)
        self.assertTrue(self.agents()["web"]["connected"])
        self.assertIn('failsafe: {management: ["192.0.2.0/24", "2001:db8::/32"]}',
                      (self.second.etc / "agent.yaml").read_text())
        self.assertFalse((self.second.etc / "join-token").exists())
        again = self.second.setup("join", printed[2], stdin="")
        self.assertEqual(again.code, 0, again)
        self.assertIn("enrolled already", again.stdout)

    def test_a_certificate_that_cannot_be_used_gives_way_to_a_new_token(self):
        third = Services(self.lab.add_host("db", 3), ["bulkheadd", "bulkheadctl"])
        address = f"{self.first.host.ip4}:7443"
        third.setup("join", address, stdin=self.token()).check()
        (third.dir / "agent/agent.pem").write_text("damaged\n")
        refused = third.setup("join", address, stdin="")
        self.assertIn("join token is empty", refused.stderr)
        joined = third.setup("join", address, stdin=self.token()).check()
        self.assertNotIn("enrolled already", joined.stdout)
        self.assertTrue(self.agents()["db"]["connected"])

    def test_a_token_that_is_refused_is_told_at_once(self):
        late = Services(self.lab.add_host("late", 4), ["bulkheadd", "bulkheadctl"])
        token = self.token()
        bad = token[:20] + ("B" if token[20] == "A" else "A") + token[21:]
        refused = late.setup("join", f"{self.first.host.ip4}:7443", stdin=bad, BULKHEAD_SETUP_PATIENCE="1000")
        self.assertEqual(refused.code, 1, refused)
        self.assertIn("bulkheadd has ended", refused.stderr)

    def token(self):
        return self.first.ctl("agent", "token", "create").check().stdout

    def test_a_second_run_changes_nothing(self):
        def state():
            return {file: file.read_text() for file in [*self.first.etc.iterdir(), *self.first.bin.glob("*.pid")]}
        before = state()
        again = self.first.setup("controller", "--name", self.first.host.ip4, "--label", "role=ctl").check()
        self.assertEqual(state(), before, "files and processes are the same")
        self.assertNotIn("written", again.stdout)
        self.assertTrue(self.agents()["ctl"]["connected"])


class AnAdminsOwnConfiguration(LabTest):
    """What stands in the files before is kept: where to listen, where the token is, who may read them."""

    @classmethod
    def arrange(cls):
        host = cls.lab.add_host("ctl", 1)
        cls.services = Services(host, ["bulkhead-controller", "bulkheadd", "bulkheadctl"])
        with open(cls.services.etc / "controller.yaml", "a", encoding="utf8") as file:
            file.write(f"grpc_listen: '{host.ip4}:7500'  # not on loopback\n")
        cls.token = cls.services.dir / "token"
        cls.agent_yaml = cls.services.etc / "agent.yaml"
        with open(cls.agent_yaml, "a", encoding="utf8") as file:
            file.write(f"join_file: {cls.token}\n# no end of this line")
        cls.agent_yaml.chmod(0o640)

    def test_is_kept_and_goes_on(self):
        made = self.services.setup("controller").check()
        self.assertIn("connected\n", made.stdout)
        self.assertIn(f"# no end of this line\ncontroller: {self.services.host.ip4}:7500\n", self.agent_yaml.read_text())
        self.assertEqual(self.agent_yaml.stat().st_mode & 0o777, 0o640)
        self.assertFalse(self.token.exists())
        self.assertEqual([file.name for file in self.services.etc.glob("join-token*")], [])


class Refusals(LabTest):
    @classmethod
    def arrange(cls):
        cls.services = Services(cls.lab.add_host("web"), ["bulkheadd", "bulkheadctl"])
        cls.config = cls.services.etc / "agent.yaml"

    def refused(self, code, word, *arguments, stdin=""):
        before = self.config.read_text()
        result = self.services.setup(*arguments, stdin=stdin)
        self.assertEqual(result.code, code, result)
        self.assertIn(word, result.stderr)
        self.assertEqual(self.config.read_text(), before)
        self.assertEqual([file.name for file in self.services.etc.glob("*.yaml.*")], [])

    def test_wrong_words(self):
        for word, *arguments in [("usage", ), ("no 'jon'", "jon"), ("HOST:PORT", "join"), ("HOST:PORT", "join", "host"),
                                 ("needs a value", "join", "h:1", "--label"), ("no label", "join", "h:1", "--label", "x"),
                                 ("no label", "join", "h:1", "--label", "a=b}\ncgroup: /x"),
                                 ("no CIDR", "join", "h:1", "--management", "office"),
                                 ("one word too many", "controller", "x"), ("no option", "controller", "--hard")]:
            with self.subTest(arguments):
                self.refused(2, word, *arguments)

    def test_what_the_admin_set_is_his(self):
        self.config.write_text(self.config.read_text() + "controller: other.example:7443\n")
        self.refused(1, "another 'controller'", "join", "192.0.2.1:7443", stdin=TOKEN)
        self.config.write_text(self.config.read_text().replace("controller: other.example:7443\n", ""))

    def test_without_a_usable_token_nothing_is_changed(self):
        self.refused(1, "join token is empty", "join", "192.0.2.1:7443")
        self.refused(1, "does not begin with", "join", "192.0.2.1:7443", stdin="nonsense\n")
        (self.services.etc / "agent.env").write_text("BULKHEAD_JOIN=an-older-one\n")
        self.refused(1, "comes before any other", "join", "192.0.2.1:7443", stdin=TOKEN)
        (self.services.etc / "agent.env").unlink()
        self.assertEqual(list(self.services.etc.glob("join-token*")), [])

    def test_an_invalid_configuration_is_not_written(self):
        self.refused(1, "left as it was", "join", "192.0.2.1:7443", "--management", "192.0.2.0/33", stdin=TOKEN)

    def test_a_missing_program_is_named(self):
        self.refused(1, "apt install bulkhead-controller", "controller")
