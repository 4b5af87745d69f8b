# SPDX-License-Identifier: Apache-2.0
"""What is packaged, checked without building a package: the units, the sample configurations, the state formats."""
import os
import pathlib
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
from stub_packages import moved_to

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
    for line in (UNITS / name).read_text().replace("\\\n", " ").splitlines():
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

    def test_needs_nothing_below_tmp_while_the_boot_empties_it(self):
        if "systemd-tmpfiles-setup.service" not in words(self.unit, "Unit", "After"):
            for key in ("PrivateDevices", "PrivateTmp"):
                self.assertNotIn("yes", words(self.unit, "Service", key))

    def test_a_host_whose_agent_does_not_start_comes_up_all_the_same(self):
        for key in ("RequiredBy", "BindsTo"):
            self.assertEqual(words(self.unit, "Install", key), [])
        self.assertEqual(words(self.unit, "Unit", "FailureAction"), [])
        self.assertEqual(words(self.unit, "Unit", "OnFailure"), [])

    def test_stopping_removes_nothing(self):
        self.assertEqual(words(self.unit, "Service", "ExecStop"), [])
        self.assertEqual(words(self.unit, "Service", "ExecStopPost"), [])
        self.assertEqual(words(self.unit, "Service", "RuntimeDirectoryPreserve"), ["yes"])

    def test_nothing_that_cannot_be_prepared_keeps_it_from_starting(self):
        for command in self.unit["Service", "ExecStartPre"]:
            self.assertRegex(command, r"^-\+/usr/bin/nsenter --target 1 --mount ")
        for path in words(self.unit, "Service", "ReadWritePaths"):
            self.assertRegex(path, "^-")
        # With these, systemd itself gives up before the program has a say.
        for key in ("StateDirectory", "LogsDirectory", "CacheDirectory", "BindPaths", "WorkingDirectory"):
            self.assertEqual(words(self.unit, "Service", key), [], key)

    def prepare_state_folder(self, root):
        command, = (line for line in self.unit["Service", "ExecStartPre"] if "/var/lib/bulkhead" in line)
        command = command.replace("/var/lib/bulkhead", f"{root}/state").replace(" -o root -g root", "")
        command = command.replace("/sys/fs/bpf", "/proc")  # mounted everywhere, so nothing is
        return run(*shlex.split(command.removeprefix("-+/usr/bin/nsenter --target 1 --mount ")))

    def test_makes_its_state_folder_and_sets_aside_what_is_in_its_place(self):
        with tempfile.TemporaryDirectory() as folder:
            state = pathlib.Path(folder) / "state"
            for before in (lambda: None, lambda: state.chmod(0o755), lambda: (state.rmdir(), state.write_text("x"))):
                before()
                done = self.prepare_state_folder(folder)
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertEqual(state.stat().st_mode, stat.S_IFDIR | 0o700)
            self.assertIn("damaged", done.stdout)
            self.assertEqual((state.parent / "state.damaged").read_text(), "x")

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


class MaintainerScripts(unittest.TestCase):
    """They are run as they are in the tree, on a file system of their own and with programs that only say what was asked."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        for path in ("bin", "etc/bulkhead", "run/systemd/system", "sys/fs/bpf"):
            (self.root / path).mkdir(parents=True)
        self.program("ischroot", "exit 1")
        self.program("deb-systemd-invoke")
        self.program("bulkheadd")

    def program(self, name, then="exit 0"):
        path = self.root / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.root}/asked\n{then}\n')
        path.chmod(0o755)

    def asked(self):
        """What programs were asked, and forgets it."""
        log = self.root / "asked"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line.strip() for line in lines if not line.startswith("ischroot")]

    def pin(self, path="sys/fs/bpf/bulkhead"):
        (self.root / path / "host/maps").mkdir(parents=True)
        (self.root / path / "host/maps/bh_control").touch()

    def run_script(self, name, *arguments, within=()):
        script = self.root / name
        script.write_text(moved_to(self.root, (TREE / "packaging/debian" / name).read_text()))
        return subprocess.run([*within, "sh", str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              check=False, env={"PATH": f"{self.root}/bin:{os.environ['PATH']}"})

    def test_removal_detaches_with_the_options_of_the_unit(self):
        self.pin()
        self.program("bulkheadd", f"rm -r {self.root}/sys/fs/bpf/bulkhead")
        (self.root / "etc/bulkhead/agent.env").write_text('BULKHEAD_OPTIONS="--cgroup /sys/fs/cgroup/a --label x=*"\n')
        done = self.run_script("bulkhead-agent.prerm", "remove")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(self.asked(), ["bulkheadd --detach --cgroup /sys/fs/cgroup/a --label x=*"])

    def test_nothing_pinned_is_nothing_to_detach(self):
        (self.root / "sys/fs/bpf/bulkhead/host").mkdir(parents=True)
        done = self.run_script("bulkhead-agent.prerm", "remove")
        self.assertEqual((done.returncode, self.asked()), (0, []), done.stdout)

    def test_the_program_stays_while_the_kernel_enforces_by_its_pins(self):
        self.pin()
        for then in ("exit 0", "exit 5"):  # "nothing is attached": those of another cgroup; refused: an agent runs
            self.program("bulkheadd", then)
            done = self.run_script("bulkhead-agent.prerm", "remove")
            self.assertEqual(done.returncode, 1, done.stdout)
            self.assertIn("still enforces", done.stdout)

    def test_pins_are_looked_for_where_the_configuration_puts_them(self):
        self.pin("elsewhere")
        other = self.root / "other.yaml"
        usual = self.root / "etc/bulkhead/agent.yaml"
        for path, options in ((usual, ""), (other, f"--config {other}"), (other, f"--guard never --config={other}")):
            with self.subTest(options):
                path.write_text(f'hostname: a\npin_dir: "{self.root}/elsewhere" # for a reason\n')
                (self.root / "etc/bulkhead/agent.env").write_text(f"BULKHEAD_OPTIONS={options}\n")
                done = self.run_script("bulkhead-agent.prerm", "remove")
                self.assertEqual(done.returncode, 1, done.stdout)
                self.assertEqual(self.asked(), [f"bulkheadd --detach {options}".strip()])
                path.unlink()

    def test_in_a_chroot_nothing_is_detached(self):
        self.pin()
        self.program("ischroot")
        done = self.run_script("bulkhead-agent.prerm", "remove")
        self.assertEqual((done.returncode, self.asked()), (0, []), done.stdout)

    def test_a_newer_version_mends_a_script_that_fails_and_an_older_one_does_not_overrule_it(self):
        for script in ("bulkhead-agent.prerm", "bulkhead-controller.prerm"):
            for arguments, code in ((("1.0", "2.0"), 0), (("2.0", "1.0"), 1), (("2.0",), 1)):
                done = self.run_script(script, "failed-upgrade", *arguments)
                self.assertEqual(done.returncode, code, (script, arguments, done.stdout))

    def test_a_controller_that_is_removed_is_stopped_and_one_that_is_upgraded_is_not(self):
        for arguments, asked in ((["remove"], ["deb-systemd-invoke stop bulkhead-controller.service"]), (["upgrade", "9"], [])):
            done = self.run_script("bulkhead-controller.prerm", *arguments)
            self.assertEqual((done.returncode, self.asked()), (0, asked), done.stdout)

    def test_purge_leaves_nothing_but_what_others_have_put_there(self):
        for path in ("var/lib/bulkhead/spool", "var/lib/others", "run/bulkhead"):
            (self.root / path).mkdir(parents=True)
        (self.root / "var/lib/bulkhead.damaged").touch()
        for name in ("agent.yaml", "agent.env", "join-token", "join-token.x7Ka02", "join-pending"):
            (self.root / "etc/bulkhead" / name).touch()
        self.assertEqual(self.run_script("bulkhead-agent.postrm", "remove").returncode, 0)
        self.assertTrue((self.root / "etc/bulkhead/agent.env").exists())
        self.assertEqual(self.run_script("bulkhead-agent.postrm", "purge").returncode, 0)
        self.assertEqual([path.name for path in (self.root / "var/lib").iterdir()], ["others"])
        self.assertFalse((self.root / "etc/bulkhead").exists())

    def test_purge_empties_a_state_folder_that_is_a_mount_point(self):
        alone = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])
        if run(*alone, "true").returncode != 0:
            self.skipTest("no mount namespace can be had here")
        for part, name in (("agent", "bulkhead"), ("controller", "bulkhead-controller")):
            for mounted in (".", "spool"):
                state = self.root / "var/lib" / name
                (state / mounted).mkdir(parents=True)
                script = (f"mount -t tmpfs none {state / mounted} && mkdir -p {state}/spool && touch {state}/spool/key {state}/key && "
                          f'"$@"; code=$?; find {state} ! -type d; exit $code')  # fmt: skip
                done = self.run_script(f"bulkhead-{part}.postrm", "purge", within=[*alone, "sh", "-c", script, "-"])
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertNotIn("key", done.stdout)
                shutil.rmtree(state)

    def test_purge_fails_where_state_is_left(self):
        (self.root / "var/lib/bulkhead").mkdir(parents=True)
        (self.root / "var/lib/bulkhead/key").touch()
        self.program("rm", "exit 1")
        self.assertEqual(self.run_script("bulkhead-agent.postrm", "purge").returncode, 1)

    def test_purge_of_the_controller_takes_the_link_to_its_admin_only_if_it_leads_nowhere(self):
        ours = self.root / "var/lib/bulkhead-controller/admin.yaml"
        link = self.root / "root/.config/bulkhead/config.yaml"
        link.parent.mkdir(parents=True)
        link.symlink_to(ours)
        ours.parent.mkdir(parents=True)
        ours.touch()
        self.assertEqual(self.run_script("bulkhead-controller.postrm", "remove").returncode, 0)
        self.assertTrue(link.exists())
        self.assertEqual(self.run_script("bulkhead-controller.postrm", "purge").returncode, 0)
        self.assertFalse(ours.parent.exists())
        self.assertFalse(link.parent.exists())
        link.parent.mkdir()
        for other in (self.root / "nowhere", "file"):
            if other == "file":
                link.write_text("")
            else:
                link.symlink_to(other)
            self.assertEqual(self.run_script("bulkhead-controller.postrm", "purge").returncode, 0)
            self.assertTrue(os.path.lexists(link), other)
            link.unlink()


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
        """Those that begin with a magic, wherever: a new one cannot be forgotten."""
        magics = set()
        for path in (TREE / "agent").rglob("*.cpp"):
            for magic in re.findall(r'string_view magic\b[^"]*"(\w+\\\w)"', path.read_text()):
                magics.add(magic.removesuffix("\\n").replace("\\", ""))
        self.assertEqual(set(self.formats["agent"][0].split(",")), magics)

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
    @unittest.skipUnless(shutil.which("asciidoctor"), "asciidoctor is not installed")
    def test_no_mark_of_a_manual_page_is_left_in_what_is_made_of_it(self):
        for path in (TREE / "docs/man").glob("*.adoc"):
            made = run("asciidoctor", "-b", "manpage", "-o", "-", str(path)).stdout
            self.assertNotIn("*", made.replace("\\*(", ""), path.name)

    def test_the_page_of_the_controller_tells_its_keys_and_exit_codes(self):
        page = (TREE / "docs/man/bulkhead-controller.8.adoc").read_text()
        keys = re.search(r"use ((?:\w+, )+\w+)\"", (TREE / "controller/daemon/config.cpp").read_text())[1].split(", ")
        self.assertIn("grpc_listen", keys)
        for key in keys:
            self.assertIn(f"*{key}*", page.split("== Files")[1], key)
        # What tells systemd that trying again changes nothing, and the two that every program has.
        codes = re.search(r"RestartPreventExitStatus=(.*)", (UNITS / "bulkhead-controller.service").read_text())[1].split()
        for code in ["0", "1", *codes]:
            self.assertRegex(page, rf"(?m)^{code}:: ", code)

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
