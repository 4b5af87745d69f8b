# SPDX-License-Identifier: Apache-2.0
"""Packages of nothing but the tree's maintainer scripts and configuration, and a root of its own to try them in."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

TREE = pathlib.Path(__file__).resolve().parents[2]
CONFIGURATION = {"agent": "agent.yaml", "controller": "controller.yaml"}
SCRIPTS = ("preinst", "postinst", "prerm", "postrm")


def moved_to(root, text):
    """A script that acts on root instead of on this machine."""
    text = text.replace("@READABLE_SINCE@", "0.1.0")
    return re.sub(r"(?<![\w/])/(etc|root|run|sys|usr/share|var)/", rf"{root}/\1/", text)


class Root:
    """dpkg's database and the files of the packages, in a folder. Needs no root: nothing is given to another owner."""

    def __init__(self, case):
        folder = tempfile.TemporaryDirectory()
        case.addCleanup(folder.cleanup)
        self.case, self.path, self.packages = case, pathlib.Path(folder.name) / "root", pathlib.Path(folder.name)
        for name in ("bin", "etc", "run/systemd/system", "sys/fs/bpf", "usr/share", "var/lib/dpkg/updates", "var/lib/dpkg/info"):
            (self.path / name).mkdir(parents=True)
        (self.path / "var/lib/dpkg/status").touch()
        for name, then in (("ischroot", "exit 1"), ("deb-systemd-invoke", ""), ("bulkheadd", "")):
            self.program(name, then)

    def program(self, name, then=""):
        path = self.path / "bin" / name
        path.write_text(f"#!/bin/sh\n{then}\n")
        path.chmod(0o755)

    def environment(self, **more):
        return {"PATH": f"{self.path}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C", **more}

    def build(self, part, version, text="a: 1\n", conffile=False):
        """With the configuration as conffile, as packages were once: of those, nothing else counts here."""
        tree = self.packages / f"{part}-{version}"
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: bulkhead-{part}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n")
        name = CONFIGURATION[part]
        where = "etc/bulkhead" if conffile else f"usr/share/bulkhead-{part}"
        if conffile:
            (tree / "DEBIAN/conffiles").write_text(f"/etc/bulkhead/{name}\n")
        for script in SCRIPTS:
            source = TREE / f"packaging/debian/bulkhead-{part}.{script}"
            if source.exists() and not conffile:
                (tree / "DEBIAN" / script).write_text(moved_to(self.path, source.read_text()))
                (tree / "DEBIAN" / script).chmod(0o755)
        (tree / where).mkdir(parents=True)
        (tree / where / name).write_text(text)
        package = self.packages / f"{part}-{version}.deb"
        subprocess.run(["dpkg-deb", "-Znone", "--root-owner-group", "--build", tree, package], check=True, stdout=subprocess.DEVNULL)
        return package

    def dpkg(self, *arguments, umask=0o022, **more):
        """Nobody is there to answer a question."""
        return subprocess.run(
            ["dpkg", f"--root={self.path}", f"--log={self.packages}/dpkg.log", "--force-script-chrootless,not-root,unsafe-io",
             *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            env=self.environment(**more), umask=umask)  # fmt: skip

    def check(self, *arguments, **more):
        done = self.dpkg(*arguments, **more)
        self.case.assertEqual(done.returncode, 0, done.stdout)
        self.case.assertNotIn("Configuration file", done.stdout)
        return done

    def install(self, *arguments, **more):
        return self.check("--install", self.build(*arguments, **more))

    def left(self):
        """Files, links and folders that are neither dpkg's nor were there before."""
        usual = {"etc", "root", "root/.config", "run", "run/systemd", "run/systemd/system", "sys", "sys/fs", "sys/fs/bpf", "usr",
                 "usr/share", "var", "var/lib"}
        every = {str(path.relative_to(self.path)) for path in self.path.rglob("*")}
        return sorted(name for name in every - usual if not name.startswith(("bin", "var/lib/dpkg")))
