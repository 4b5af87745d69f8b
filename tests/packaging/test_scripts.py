# SPDX-License-Identifier: Apache-2.0
"""scripts/package, scripts/release and scripts/sbom, without building anything."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

TREE = pathlib.Path(__file__).resolve().parents[2]


def run(*command, **more):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)


class WithFolder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def program(self, path, *lines):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh -e\n" + "\n".join(lines) + "\n")
        path.chmod(0o755)

    def check(self, *command):
        done = run(*command, cwd=self.root / "tree", env={**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}",
                                                          "GIT_CONFIG_GLOBAL": "/dev/null"})  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def tree(self, *scripts):
        (self.root / "tree/scripts").mkdir(parents=True)
        (self.root / "tree/CMakeLists.txt").write_text("project(bulkhead VERSION 1.2.3 LANGUAGES C)\n")
        for script in scripts:
            shutil.copy(TREE / "scripts" / script, self.root / "tree/scripts")


@unittest.skipUnless(shutil.which("dpkg-deb"), "dpkg is not installed")
class Sbom(WithFolder):
    def sbom(self, depends, archives=""):
        for name, needs in depends.items():
            (self.root / name / "DEBIAN").mkdir(parents=True)
            (self.root / name / "DEBIAN/control").write_text(
                f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\n{needs}Description: x\n")
            self.assertEqual(run("dpkg-deb", "--build", str(self.root / name), str(self.root / f"{name}.deb")).returncode, 0)
        (self.root / "archives").write_text(archives)
        done = subprocess.run([TREE / "scripts/sbom", "--archives", self.root / "archives", *self.root.glob("*.deb")],
                              stdout=subprocess.PIPE, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
        return json.loads(done.stdout)

    def needed(self, document, by):
        return {one["relatedSpdxElement"]: one["comment"] for one in document["relationships"]
                if one["spdxElementId"] == f"SPDXRef-{by}" and one["relationshipType"] == "DEPENDS_ON"}

    @unittest.skipUnless(shutil.which("dpkg-query"), "dpkg is not installed")
    def test_says_of_each_package_what_was_linked_into_it(self):
        archive = next(pathlib.Path("/usr/lib").glob("*/libbpf.a"), None)
        if not archive:
            self.skipTest("libbpf-dev is not installed")
        document = self.sbom({"with": "Depends: libc6 (>= 2)\n", "without": "Depends: libc6\n"}, f"with {archive}\n")
        linked = [one["spdxElementId"] for one in document["relationships"] if one["relatedSpdxElement"] == "SPDXRef-linked-libbpf"]
        self.assertEqual(linked, ["SPDXRef-with"])

    def test_says_which_packages_are_needed_and_how(self):
        document = self.sbom({"one": "Depends: libc6 (>= 2.36), systemd (>= 252) | systemd-sysusers | opensysusers, perl:any\n",
                              "other": "Depends: libc6 (>= 2.34)\n", "neither": ""})  # fmt: skip
        whole = "Depends: systemd (>= 252) | systemd-sysusers | opensysusers"
        self.assertEqual(self.needed(document, "one"), {
            "SPDXRef-needed-libc6": "Depends: libc6 (>= 2.36)", "SPDXRef-needed-systemd": whole,
            "SPDXRef-needed-systemd-sysusers": whole, "SPDXRef-needed-opensysusers": whole,
            "SPDXRef-needed-perl": "Depends: perl:any"})  # fmt: skip
        self.assertEqual(self.needed(document, "other"), {"SPDXRef-needed-libc6": "Depends: libc6 (>= 2.34)"})
        self.assertEqual(self.needed(document, "neither"), {})
        packages = {one["SPDXID"]: one for one in document["packages"]}
        for name in ("libc6", "systemd", "systemd-sysusers", "opensysusers", "perl"):
            self.assertEqual(packages[f"SPDXRef-needed-{name}"]["name"], name)
            self.assertNotIn("versionInfo", packages[f"SPDXRef-needed-{name}"], "a bound is no version")


class Package(WithFolder):
    def test_debug_symbols_lie_apart(self):
        self.tree("package")
        self.program("tree/scripts/install-deps", "exit 0")
        (self.root / "tree/packaging/debian").mkdir(parents=True)
        shutil.copy(TREE / "packaging/debian/changelog", self.root / "tree/packaging/debian")
        self.program("bin/dpkg-buildpackage", "mkdir -p obj-x", "cd ..",
                     "touch bulkhead-agent_1_amd64.deb bulkhead-agent-dbgsym_1_amd64.deb bulkhead_1_amd64.buildinfo")
        self.program("bin/ninja", "echo /usr/lib/libx.a")
        output = self.root / "output"
        for _ in range(2):
            self.check("scripts/package", "--output", str(output))
            self.assertEqual(sorted(str(path.relative_to(output)) for path in output.rglob("*.*")),
                             ["bulkhead-agent_1_amd64.deb", "bulkhead_1_amd64.buildinfo",
                              "debug/bulkhead-agent-dbgsym_1_amd64.deb"])  # fmt: skip
            # Where they were before there was a folder for them.
            (output / "debug/bulkhead-agent-dbgsym_1_amd64.deb").rename(output / "bulkhead-agent-dbgsym_1_amd64.deb")


@unittest.skipUnless(shutil.which("git"), "git is not installed")
class Release(WithFolder):
    """Of a tree whose scripts/package packs the name of the folder that it builds in, where it is told to."""

    def setUp(self):
        super().setUp()
        self.tree("release")
        self.program("tree/scripts/sbom", "echo {}")
        self.program(
            "tree/scripts/package",
            "while [ $# -gt 0 ]; do case $1 in --output) output=$2 ;; --build-dir) build=$2 ;; esac; shift 2; done",
            'mkdir -p "$output/debug" "$build"',
            "for part in agent controller cli; do",
            '  echo "$part" >"$output/bulkhead-${part}_1.2.3_amd64.deb"',
            '  echo "$part" >"$output/debug/bulkhead-$part-dbgsym_1.2.3_amd64.deb"',
            "done",
            '[ ! -e differs ] || echo "$build" >"$output/$(cat differs)"',
            'echo x >"$output/bulkhead_1.2.3_amd64.changes"',
            "cat >\"$output/bulkhead_1.2.3_amd64.buildinfo\" <<TEXT", "Format: 1.0", "Source: bulkhead", "Build-Date: today",
            "Build-Path: $build", "Build-Tainted-By:", " usr-local-has-programs", "Installed-Build-Depends:",
            " clang-14 (= 1:14.0.6-12),", " cmake (= 3.25.1-1)", "Environment:", ' LANG="C"', "TEXT")  # fmt: skip
        (self.root / "tree/.gitignore").write_text("/build/\n/differs\n")
        self.check("git", "init", "-q")
        self.check("git", "add", ".")
        self.check("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a")
        self.output = self.root / "tree/build/release-1.2.3"

    def test_holds_what_was_built_with_a_sum_of_each(self):
        self.check("scripts/release")
        files = {str(path.relative_to(self.output)) for path in self.output.rglob("*") if path.is_file()}
        packages = {f"bulkhead-{part}_1.2.3_amd64.deb" for part in ("agent", "controller", "cli")}
        symbols = {f"debug/bulkhead-{part}-dbgsym_1.2.3_amd64.deb" for part in ("agent", "controller", "cli")}
        summed = packages | symbols | {"bulkhead_1.2.3.spdx.json", "bulkhead_1.2.3_amd64.buildinfo"}
        self.assertEqual(files, summed | {"SHA256SUMS"})
        sums = (self.output / "SHA256SUMS").read_text().splitlines()
        self.assertEqual({line.split("  ")[1] for line in sums}, summed)
        self.assertEqual(run("sha256sum", "--check", "--quiet", "SHA256SUMS", cwd=self.output).returncode, 0)

    def test_says_with_what_it_was_built_and_nothing_of_the_machine(self):
        self.check("scripts/release")
        self.assertEqual((self.output / "bulkhead_1.2.3_amd64.buildinfo").read_text(),
                         "Format: 1.0\nSource: bulkhead\nInstalled-Build-Depends:\n clang-14 (= 1:14.0.6-12),\n cmake (= 3.25.1-1)\n")

    def test_verify_compares_everything(self):
        self.assertIn("the same", self.check("scripts/release", "--verify"))
        for name in ("bulkhead-cli_1.2.3_amd64.deb", "debug/bulkhead-cli-dbgsym_1.2.3_amd64.deb"):
            (self.root / "tree/differs").write_text(name)
            done = run("scripts/release", "--verify", cwd=self.root / "tree")
            self.assertNotEqual(done.returncode, 0, name)
            self.assertIn(f"{name} ", done.stdout)

    def test_empties_no_folder_of_somebody_else(self):
        kept = self.root / "kept/file"
        kept.parent.mkdir()
        kept.touch()
        done = run("scripts/release", "--output", str(kept.parent), cwd=self.root / "tree")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("something else than a release", done.stdout)
        self.assertTrue(kept.exists())


if __name__ == "__main__":
    unittest.main()
