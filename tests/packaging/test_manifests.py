# SPDX-License-Identifier: Apache-2.0
"""packaging/container: no cluster is at hand, so only that the manifests say what they must, and the same where they must."""
import pathlib
import re
import unittest

try:
    import yaml
except ImportError:
    yaml = None

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "packaging/container"


@unittest.skipUnless(yaml, "PyYAML is not installed")
class Manifests(unittest.TestCase):
    def pod(self, name):
        (daemons,) = [one for one in yaml.safe_load_all((FOLDER / name).read_text()) if one["kind"] == "DaemonSet"]
        labels = daemons["spec"]["template"]["metadata"]["labels"]
        self.assertEqual(daemons["spec"]["selector"]["matchLabels"], labels)
        return daemons["spec"]["template"]["spec"]

    def test_name_servers_are_the_nodes_own(self):
        """Those of the pod become failsafe/dns."""
        self.assertEqual(self.pod("daemonset.yaml")["dnsPolicy"], "Default")

    def test_what_detaches_is_where_the_agent_was(self):
        agent, detacher = self.pod("daemonset.yaml"), self.pod("detach.yaml")
        (runs,), (once,) = agent["containers"], detacher["initContainers"]
        self.assertEqual(once["command"], ["bulkheadd", "--detach"])
        for key in ("hostNetwork", "hostPID", "tolerations"):
            self.assertEqual(detacher[key], agent[key], key)
        for key in ("image", "securityContext"):
            self.assertEqual(once[key], runs[key], key)
        needless = {"join", "run"}  # the token, the socket
        self.assertEqual(once["volumeMounts"], [one for one in runs["volumeMounts"] if one["name"] not in needless])
        self.assertEqual(detacher["volumes"], [one for one in agent["volumes"] if one["name"] not in needless])
        # What runs on afterwards is nothing, without privileges.
        (waits,) = detacher["containers"]
        self.assertNotIn("bulkheadd", " ".join(waits["command"]))
        self.assertNotIn("securityContext", waits)

    def test_the_page_names_every_file(self):
        page = (FOLDER / "README.md").read_text()
        for path in FOLDER.iterdir():
            if path.name != "README.md":
                self.assertIn(f"`{path.name}`", page)
                self.assertRegex(path.read_text(), r"(?m)^# .*Untested", path.name)
        for name in re.findall(r"`([\w.-]+\.yaml)`", page):
            self.assertTrue((FOLDER / name).exists() or name == "agent.yaml", name)


if __name__ == "__main__":
    unittest.main()
