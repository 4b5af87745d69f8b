# SPDX-License-Identifier: Apache-2.0
"""Bad input: refused with exit code 3, the place and the mend; the old policy stays and no host notices."""

import json

from harness.bulkhead import Agent, Controller, program
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import AppTest, policy

GOOD = policy()

BAD = {
    "malformed_yaml": "version: 1\nsegment: app\nselector: {role: app\nmode: [enforce\n",
    "unknown_key": GOOD + "allows:\n  - {id: x}\n",
    "unknown_segment": GOOD + "  - {id: b, from: {segment: nobody}, service: [tcp/80]}\n",
    "duplicate_id": GOOD + "  - {id: open, from: any, service: [tcp/80]}\n",
    "duplicate_segment": GOOD + "---\n" + GOOD,
    "duplicate_key": GOOD.replace("inbound: deny", "inbound: deny\ninbound: allow"),
    "cidr_with_host_bits": GOOD + "  - {id: b, from: {cidr: [10.77.0.5/24]}, service: [tcp/80]}\n",
    "port_70000": GOOD + "  - {id: b, from: any, service: [tcp/70000]}\n",
    "reversed_range": GOOD + "  - {id: b, from: any, service: [tcp/200-100]}\n",
    "unknown_service": GOOD + "  - {id: b, from: any, service: [no-such-service]}\n",
    "unknown_mode": GOOD.replace("mode: enforce", "mode: enforced"),
    "megabyte_scalar": GOOD + "description: " + "x" * (1 << 20) + "\n",
    "alias_bomb": GOOD + "description: &a [x, x, x, x, x, x, x, x, x]\n"
                  + "".join(f"d{i}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)),
    "deep_nesting": "version: 1\nselector: " + "[" * 5000 + "]" * 5000 + "\n",
    "empty_file": "",
    "only_a_comment": "# nothing here\n",
    "control_bytes": "version: 1\nsegment: \"a\\0b\"\n\x01\x02",
    "no_version": GOOD.replace("version: 1\n", ""),
    "version_from_the_future": GOOD.replace("version: 1", "version: 99"),
    "feature_fqdn": GOOD + "  - {id: b, to: {fqdn: [example.org]}, service: https}\n",
    "feature_expect": GOOD + "expect:\n  - {allow: \"role=app -> role=app : any\"}\n",
    "feature_peer_process": GOOD + "  - {id: b, from: any, service: ssh, peer_process: {exe: /bin/x}}\n",
}


class BadPolicy(AppTest):
    @classmethod
    def arrange(cls):
        super().arrange()
        cls.controller.apply(GOOD)
        cls.before = cls.state()

    @classmethod
    def state(cls):
        shown = cls.controller.ctl("policy", "show").check().stdout
        status = cls.agent.status()
        return shown, status.get("policy_version"), status.get("generation")

    def refused(self, path, where):
        for command in ("validate", "apply"):
            result = self.controller.ctl("policy", command, path, timeout=20)
            self.assertEqual(result.code, 3, result)
            self.assertEqual(result.stdout, "", "data only on stdout")
            self.assertRegex(result.stderr, where, "file:line:column")
            self.assertLess(len(result.stderr), 20000)
            self.assertLess(result.seconds, 3)
        self.assertEqual(self.state(), self.before)

    def refused_text(self, text):
        path = self.controller.host.dir / "bad.yaml"
        path.write_text(text)
        self.refused(path, r"bad\.yaml:\d+:\d+: ")

    def tearDown(self):
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        self.assertPasses(self.guest.probe("tcp", self.app.ip4, 7000))

    def test_folder_without_files(self):
        folder = self.controller.host.dir / "empty"
        folder.mkdir()
        self.refused(folder, "empty")

    def test_missing_file(self):
        self.refused(self.controller.host.dir / "absent.yaml", r"absent\.yaml")

    def test_one_bad_file_among_good_ones(self):
        folder = self.controller.host.dir / "mixed"
        folder.mkdir()
        (folder / "a.yaml").write_text(GOOD)
        (folder / "b.yaml").write_text(BAD["port_70000"].replace("segment: app", "segment: other"))
        self.refused(folder, r"b\.yaml:\d+:\d+: ")

    def test_every_error_is_reported(self):
        path = self.controller.host.dir / "two.yaml"
        path.write_text(GOOD + "  - {id: b, from: any, service: [tcp/70000]}\n"
                        + "  - {id: c, from: {cidr: [10.77.0.5/24]}, service: [tcp/80]}\n")
        result = self.controller.ctl("policy", "validate", path)
        self.assertEqual(result.code, 3)
        self.assertEqual(len(set(line.split(" ")[0] for line in result.stderr.splitlines() if "two.yaml:" in line)), 2,
                         result)

    def test_same_policy_again_changes_nothing(self):
        self.controller.apply(GOOD)
        self.assertEqual(self.state()[1], self.before[1])


for _name, _text in BAD.items():
    setattr(BadPolicy, f"test_{_name}", lambda self, text=_text: self.refused_text(text))


class WrongUse(LabTest):
    """Exit codes of bulkheadctl where no policy is to blame."""

    @classmethod
    def arrange(cls):
        cls.controller = Controller(cls.lab.add_host("ctl", 1)).start()

    def test_exit_codes(self):
        ctl = self.controller.ctl
        self.assertEqual(ctl("no-such-command").code, 2)
        self.assertEqual(ctl("policy", "apply").code, 2)
        self.assertEqual(ctl("flows", "--verdict", "maybe").code, 2)
        self.assertEqual(ctl("--controller", "127.0.0.1:1", "policy", "show").code, 4)
        self.assertEqual(ctl("--help").code, 0)
        version = ctl("--version").check()
        self.assertRegex(version.stdout, r"\d+\.\d+\.\d+")

    def test_an_agent_certificate_is_no_admin(self):
        agent = Agent(self.lab.add_host("app"), {"role": "app"}, self.controller).enrol()
        pem = agent.state / "agent.pem"
        wait_until(pem.exists, 5, "the agent is enrolled")
        key, begins, certificate = pem.read_text().partition("-----BEGIN CERTIFICATE-----")
        context = self.controller.host.dir / "agent-as-admin.yaml"
        context.write_text(json.dumps({"current": "x", "contexts": [{
            "name": "x", "controller": self.controller.address, "ca": (agent.state / "ca.pem").read_text(),
            "certificate": begins + certificate, "key": key}]}))
        for command in (("agent", "token", "create"), ("policy", "show"), ("flows",)):
            result = self.controller.host.run(program("bulkheadctl"), "--config", context, *command, daemon=True)
            self.assertEqual(result.code, 5, result)
            self.assertEqual(result.stdout, "")
