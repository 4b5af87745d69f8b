# SPDX-License-Identifier: Apache-2.0
"""bulkhead-setup: one command for the controller's host, one for each next host."""

import json
import re

from harness.case import LabTest
from harness.services import Services


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

    def test_a_second_run_changes_nothing(self):
        def state():
            return {file: file.read_text() for file in [*self.first.etc.iterdir(), *self.first.bin.glob("*.pid")]}
        before = state()
        again = self.first.setup("controller", "--name", self.first.host.ip4, "--label", "role=ctl").check()
        self.assertEqual(state(), before, "files and processes are the same")
        self.assertNotIn("written", again.stdout)
        self.assertTrue(self.agents()["ctl"]["connected"])


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
        self.refused(1, "another 'controller'", "join", "192.0.2.1:7443")
        self.config.write_text(self.config.read_text().replace("controller: other.example:7443\n", ""))

    def test_an_invalid_configuration_is_not_written(self):
        self.refused(1, "left as it was", "join", "192.0.2.1:7443", "--management", "192.0.2.0/33")

    def test_a_missing_program_is_named(self):
        self.refused(1, "apt install bulkhead-controller", "controller")
