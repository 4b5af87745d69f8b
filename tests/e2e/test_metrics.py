# SPDX-License-Identifier: Apache-2.0
"""What Prometheus is answered by an agent at work."""

import re

from harness.bulkhead import Agent
from harness.case import LabTest
from harness.lab import wait_until
from test_modes import policy

ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


class Metrics(LabTest):
    @classmethod
    def arrange(cls):
        cls.app, cls.guest = cls.lab.add_host("app"), cls.lab.add_host("guest", 50)
        policies = cls.app.dir / "policies"
        policies.mkdir()
        (policies / "app.yaml").write_text(policy())
        cls.agent = Agent(cls.app, {"role": "app"}, policy_dir=policies,
                          extra='metrics: {listen: "127.0.0.1:9464"}\n').start()
        cls.app.serve("tcp", 7001)

    def value(self, metric):
        text = self.app.run("python3", "-c", ASK, "http://127.0.0.1:9464/metrics", daemon=True).check().stdout
        found = re.search(rf"^{re.escape(metric)} (\S+)$", text, re.MULTILINE)
        self.assertTrue(found, f"{metric} in\n{text}")
        return float(found[1])

    def test_what_happens_is_counted(self):
        self.assertEqual(self.value("bulkhead_enforcing"), 1)
        self.assertEqual(self.value('bulkhead_map_capacity{map="listeners"}'), 16384)
        self.assertGreater(self.value('bulkhead_map_entries{map="listeners"}'), 0)
        denied = 'bulkhead_verdicts_total{plane="active",verdict="denied",direction="inbound"}'
        before = self.value(denied)
        self.assertRefused(self.guest.probe("tcp", self.app.ip4, 7001), "ECONNREFUSED")
        wait_until(lambda: self.value(denied) == before + 1, 10, "the refusal")
