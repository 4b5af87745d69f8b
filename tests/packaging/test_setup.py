# SPDX-License-Identifier: Apache-2.0
"""bulkhead-setup join where it does not go well, beside programs that are not there. What does is in tests/e2e/test_setup.py."""
import os
import pathlib
import subprocess
import tempfile
import unittest

TREE = pathlib.Path(__file__).resolve().parents[2]
RIGHT, WRONG = "ctl.example.org:7443", "clt.example.org:7443"
# An agent that is started with the right controller and a token enrols, and then is connected.
PROGRAMS = {
    "id": "echo 0",
    "bulkheadd": "exit 0",
    "systemctl": """case $1 in is-failed) exit 1 ;; start | restart) ;; *) exit 0 ;; esac
echo "$1" >>"$ROOT/restarts"
grep -q "^controller: $RIGHT" "$ROOT/etc/agent.yaml" || { rm -f "$ROOT/connected"; exit 0; }
file=$(sed -n 's/^join_file: //p' "$ROOT/etc/agent.yaml")
if [ -e "$ROOT/state/agent.pem" ] || [ -s "$file" ]; then touch "$ROOT/state/agent.pem" "$ROOT/connected"; fi""",
    "bulkheadctl": """case "$*" in
  *doctor*) printf '{"check": "certificate",\\n"result": "ok"\\n}\\n' ;;
  *) [ ! -e "$ROOT/connected" ] || echo '"connected": true' ;;
esac""",
}


class Join(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for name in ("bin", "etc", "state"):
            (self.root / name).mkdir()
        for name, text in PROGRAMS.items():
            (self.root / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.root / "bin" / name).chmod(0o755)
        self.config = self.root / "etc/agent.yaml"
        self.token = self.root / "etc/join-token"
        self.config.write_text("# of the package\n")

    def join(self, address, code=0, stdin="token\n", options=()):
        done = subprocess.run(
            [TREE / "packaging/setup/bulkhead-setup", "join", address, *options], input=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, check=False,
            env={"PATH": f"{self.root}/bin:{os.environ['PATH']}", "HOME": str(self.root), "ROOT": str(self.root), "RIGHT": RIGHT,
                 "BULKHEAD_SETUP_ETC": str(self.root / "etc"), "BULKHEAD_SETUP_AGENT_STATE": str(self.root / "state"),
                 "BULKHEAD_SETUP_PATIENCE": "0"})  # fmt: skip
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def in_etc(self):
        return sorted(path.name for path in (self.root / "etc").iterdir())

    def assert_enrolled(self):
        self.assertEqual(self.in_etc(), ["agent.yaml"])
        self.assertIn(f"controller: {RIGHT}\n", self.config.read_text())

    def test_enrols_again_where_it_is_asked_to(self):
        self.config.write_text(f"# of the admin\ncontroller: {WRONG}\n")
        (self.root / "state/agent.pem").write_text("of another controller\n")
        self.assertIn("has another 'controller'", self.join(RIGHT, code=1))
        self.assertIn("enrolled with", self.join(RIGHT, options=["--again"]))
        self.assert_enrolled()
        self.assertEqual((self.root / "state/agent.pem").read_text(), "", "a new one")
        (self.root / "state/agent.pem").write_text("of before\n")
        self.assertIn("(--again enrols", self.join(RIGHT))
        self.assertEqual((self.root / "state/agent.pem").read_text(), "of before\n")

    def test_what_went_well_leaves_nothing_but_the_configuration(self):
        self.assertIn("connected", self.join(RIGHT))
        self.assert_enrolled()

    def test_a_mistyped_address_gives_way_to_the_right_one(self):
        self.assertIn("not connected", self.join(WRONG, code=1, options=["--label", "app=shop"]))
        before = self.config.read_text()
        self.assertEqual(self.token.read_text(), "token\n", "the controller may yet come up")
        self.join(WRONG, code=1)
        self.assertEqual(self.config.read_text(), before)
        self.join(RIGHT)
        self.assertEqual(self.config.read_text(), before.replace(WRONG, RIGHT))
        self.assert_enrolled()

    def test_an_address_that_the_admin_set_is_his(self):
        self.config.write_text(f"controller: {WRONG}\n")
        told = self.join(RIGHT, code=1)
        self.assertIn(f"{self.config} has another 'controller' already", told)
        self.assertEqual(self.config.read_text(), f"controller: {WRONG}\n")
        self.assertEqual(self.in_etc(), ["agent.yaml"])
        self.join(WRONG, code=1)  # which is no reason to take it for ours
        self.assertIn("has another", self.join(RIGHT, code=1))

    def test_an_address_that_the_admin_put_in_place_of_ours_is_his(self):
        self.join(WRONG, code=1)
        self.config.write_text(self.config.read_text().replace(WRONG, "other.example.org:7443"))
        self.assertIn("has another", self.join(RIGHT, code=1))

    def test_an_address_with_which_the_host_has_enrolled_stays(self):
        self.join(RIGHT)
        self.assertIn("has another", self.join(WRONG, code=1))
        self.assert_enrolled()

    def test_a_host_that_enrols_after_the_run_is_left_as_it_is(self):
        self.join(WRONG, code=1)
        (self.root / "state/agent.pem").touch()  # the controller came up at last
        self.assertIn("has another", self.join(RIGHT, code=1))
        self.config.write_text(self.config.read_text().replace(WRONG, RIGHT))
        (self.root / "connected").touch()
        self.assertIn("enrolled already", self.join(RIGHT, stdin=""))
        self.assert_enrolled()

    def test_the_token_of_a_failed_run_is_looked_for_where_it_was_put(self):
        self.join(WRONG, code=1)
        elsewhere = self.root / "elsewhere"
        self.config.write_text(self.config.read_text().replace(str(self.token), str(elsewhere)))
        self.join(RIGHT)
        self.assertFalse(elsewhere.exists())
        self.assert_enrolled()

    def test_a_file_that_no_run_has_put_there_stays(self):
        shared = self.root / "shared"
        self.config.write_text(f"join_file: {shared}\n")
        shared.write_text("of many hosts\n")
        (self.root / "state/agent.pem").touch()
        self.assertIn("enrolled already", self.join(RIGHT, stdin=""))
        self.assertEqual(shared.read_text(), "of many hosts\n")
        self.assert_enrolled()


if __name__ == "__main__":
    unittest.main()
