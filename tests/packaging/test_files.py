# SPDX-License-Identifier: Apache-2.0
"""What is packaged, checked without building a package: the units, the sample configurations, the state formats."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

TREE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BULKHEAD_BUILD_DIR", TREE / "build/dev"))
UNITS = TREE / "packaging/systemd"
# systemd-analyze counts in tenths: `overall exposure` of at most 4.0 and 2.5.
MOST_EXPOSED = {"bulkheadd.service": 40, "bulkhead-controller.service": 25}


def run(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def unit(name):
    """Section and key to all of its values, in order: keys may be repeated."""
    settings, section = {}, None
    for line in (UNITS / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault((section, key), []).append(value)
    return settings


def words(settings, section, key):
    return " ".join(settings.get((section, key), [])).split()


@unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
class Units(unittest.TestCase):
    def test_systemd_understands_every_line(self):
        with tempfile.TemporaryDirectory() as folder:
            copies = []
            for path in sorted(UNITS.glob("*.service")):
                copy = pathlib.Path(folder) / path.name
                # A program that is not installed would be the only complaint.
                copy.write_text(re.sub(r"/usr/sbin/bulkhead[a-z-]*", "/bin/true", path.read_text()))
                copies.append(str(copy))
            done = run("systemd-analyze", "verify", "--man=no", *copies)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_exposure_is_within_its_limit(self):
        for name, limit in MOST_EXPOSED.items():
            done = run("systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={limit}",
                       str(UNITS / name))
            self.assertEqual(done.returncode, 0, f"{name}:\n{done.stdout}")


class AgentUnit(unittest.TestCase):
    def setUp(self):
        self.unit = unit("bulkheadd.service")

    def test_is_there_before_the_network(self):
        self.assertIn("network-pre.target", words(self.unit, "Unit", "Before"))
        self.assertIn("network-pre.target", words(self.unit, "Unit", "Wants"))
        self.assertEqual(words(self.unit, "Unit", "DefaultDependencies"), ["no"])

    def test_waits_for_nothing_that_waits_for_the_network(self):
        # sysinit.target: cloud-init orders the network before it.
        for late in ("sysinit.target", "basic.target", "network.target", "network-online.target", "systemd-resolved.service"):
            self.assertNotIn(late, words(self.unit, "Unit", "After"))

    def test_a_host_whose_agent_does_not_start_comes_up_all_the_same(self):
        for key in ("RequiredBy", "BindsTo"):
            self.assertEqual(words(self.unit, "Install", key), [])
        self.assertEqual(words(self.unit, "Unit", "FailureAction"), [])
        self.assertEqual(words(self.unit, "Unit", "OnFailure"), [])

    def test_stopping_removes_nothing(self):
        self.assertEqual(words(self.unit, "Service", "ExecStop"), [])
        self.assertEqual(words(self.unit, "Service", "ExecStopPost"), [])
        self.assertEqual(words(self.unit, "Service", "RuntimeDirectoryPreserve"), ["yes"])

    def test_sees_the_processes_and_files_that_it_judges(self):
        for key in ("ProtectProc", "ProcSubset", "PrivateTmp", "PrivateUsers", "PrivateNetwork", "User"):
            self.assertEqual(words(self.unit, "Service", key), [], key)


class ControllerUnit(unittest.TestCase):
    def test_has_a_user_of_its_own_and_no_capability(self):
        settings = unit("bulkhead-controller.service")
        user = words(settings, "Service", "User")[0]
        self.assertRegex((TREE / "packaging/sysusers/bulkhead-controller.conf").read_text(), rf"(?m)^u {user} ")
        self.assertRegex((TREE / "packaging/tmpfiles/bulkhead-controller.conf").read_text(),
                         rf"(?m)^d /var/lib/bulkhead-controller 0700 {user} {user} ")
        self.assertEqual(words(settings, "Service", "CapabilityBoundingSet"), [])


class Configuration(unittest.TestCase):
    """The configuration files of the packages are what the programs accept, and say nothing but the defaults."""

    def program(self, path):
        found = BUILD / path
        if not found.exists():
            self.skipTest(f"{found} is not built")
        return str(found)

    def check(self, program, sample):
        done = run(self.program(program), "--config", str(TREE / "packaging/etc" / sample), "--check")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertRegex(done.stdout, "valid")

    def with_every_example(self, sample):
        """The sample with its examples switched on, but for the second source of policy."""
        text = (TREE / "packaging/etc" / sample).read_text()
        lines = [line for line in text.splitlines() if "policy_dir" not in line]
        return "\n".join(re.sub(r"^# (?=( *)[a-z_]+:)", "", line) for line in lines) + "\n"

    def test_of_the_agent_is_valid(self):
        self.check("agent/daemon/bulkheadd", "agent.yaml")

    def test_of_the_controller_is_valid(self):
        self.check("controller/daemon/bulkhead-controller", "controller.yaml")

    def test_the_examples_in_it_are_valid(self):
        for program, sample in (("agent/daemon/bulkheadd", "agent.yaml"),
                                ("controller/daemon/bulkhead-controller", "controller.yaml")):
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(self.with_every_example(sample))
                file.flush()
                done = run(self.program(program), "--config", file.name, "--check")
                self.assertEqual(done.returncode, 0, f"{done.stdout}\n{self.with_every_example(sample)}")


class StateFormats(unittest.TestCase):
    """packaging/state-formats, by which the packages refuse a downgrade, says what the source does."""

    def setUp(self):
        lines = (TREE / "packaging/state-formats").read_text().splitlines()
        self.formats = {line.split()[0]: line.split()[1:] for line in lines if line and not line.startswith("#")}
        self.version = re.search(r"project\(bulkhead VERSION (\S+)", (TREE / "CMakeLists.txt").read_text())[1]

    def test_of_the_agent_are_those_of_the_source(self):
        magics = []
        for name in ("policy_state", "quarantine_state"):
            source = (TREE / f"agent/state/{name}.cpp").read_text()
            magics.append(re.search(r'string_view magic = "(\w+)\\n"', source)[1])
        self.assertEqual(self.formats["agent"][0].split(","), magics)

    def test_of_the_controller_is_the_number_of_migrations(self):
        source = (TREE / "controller/store/migrations.cpp").read_text()
        steps = re.search(r"std::array<const char\*, (\d+)> steps", source)[1]
        self.assertEqual(self.formats["controller"][0], steps)

    def test_no_version_claims_to_be_read_by_a_newer_one_only(self):
        for part, (_, since) in self.formats.items():
            self.assertLessEqual([int(n) for n in since.split(".")], [int(n) for n in self.version.split(".")], part)

    def test_the_changelog_of_the_packages_is_of_this_version(self):
        top = (TREE / "packaging/debian/changelog").read_text().split("\n", 1)[0]
        self.assertTrue(top.startswith(f"bulkhead ({self.version}) "), top)
        self.assertIn(f"bulkhead_version {self.version}}}", (TREE / "packaging/rpm/bulkhead.spec").read_text())


class Documents(unittest.TestCase):
    def test_the_page_of_bulkheadctl_names_every_command(self):
        program = BUILD / "cli/bulkheadctl"
        if not program.exists():
            self.skipTest(f"{program} is not built")
        commands = re.findall(r"(?m)^  ([a-z]+) {2,}", run(str(program), "--help").stdout.split("Subcommands:")[1])
        self.assertIn("policy", commands)
        page = (TREE / "docs/man/bulkheadctl.1.adoc").read_text()
        for command in commands:
            self.assertRegex(page, rf"\*{command}[ *]", command)


if __name__ == "__main__":
    unittest.main()
