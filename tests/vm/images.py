# SPDX-License-Identifier: Apache-2.0
"""Disk images of Debian releases with the kernels that they may have, made of Debian's packages and kept in a cache.

The mirrors are those of this machine's apt; $BULKHEAD_VM_MIRROR and $BULKHEAD_VM_SECURITY_MIRROR name others.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import debs

HERE = Path(__file__).resolve().parent
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
DISK = "3G"  # sparse
RECIPE = 1  # to be counted up when what is below makes other images

# RELEASE -> kernel -> the suite that the kernel is taken from. The first is the release's own.
RELEASES = {
    "bookworm": {"6.1": "bookworm", "5.10": "bullseye", "6.12": "bookworm-backports", "sid": "sid"},
    "trixie": {"6.12": "trixie"},
}
WITH_SECURITY = ("bullseye", "bookworm", "trixie")
PACKAGES = [
    "systemd", "systemd-sysv", "dbus", "udev", "kmod", "initramfs-tools", "zstd", "busybox", "iproute2", "iputils-ping",
    "procps", "netbase", "nftables", "python3", "ncat", "bpftool", "apt", "ca-certificates", "libbpf1",
]  # fmt: skip


@dataclasses.dataclass
class Image:
    name: str
    kernel: Path
    initrd: Path
    disk: Path


def parse(name):
    """RELEASE[:KERNEL] -> (release, kernel)"""
    release, _, kernel = name.partition(":")
    if release not in RELEASES:
        raise ValueError(f"no release '{release}'; there are {', '.join(RELEASES)}")
    kernel = kernel or next(iter(RELEASES[release]))
    if kernel not in RELEASES[release]:
        raise ValueError(f"no kernel '{kernel}' for {release}; there are {', '.join(RELEASES[release])}")
    return release, kernel


def run(*argv, **options):
    return subprocess.run(list(map(str, argv)), check=True, stdin=subprocess.DEVNULL, **options)


def output_of(*argv, **options):
    return run(*argv, stdout=subprocess.PIPE, text=True, **options).stdout


def mirrors():
    """Of packages and of security updates."""
    found = {}
    for line in output_of("apt-get", "indextargets", "--format", "$(SUITE) $(CODENAME) $(ORIGIN) $(REPO_URI)",
                          "Created-By: Packages").splitlines():  # fmt: skip
        words = line.split()
        if "Debian" in words:
            found.setdefault("security" if "security" in words[0] or "security" in words[1] else "main", words[-1])
    mirror = os.environ.get("BULKHEAD_VM_MIRROR") or found.get("main")
    if not mirror:
        raise SystemExit("no Debian mirror in apt's configuration: name one in $BULKHEAD_VM_MIRROR")
    return mirror, os.environ.get("BULKHEAD_VM_SECURITY_MIRROR") or found.get("security")


class Archive:
    """Packages of a suite, by an apt that knows nothing of this machine's own packages."""

    def __init__(self, cache, suite):
        self.suite = suite
        self.folder = cache / "apt" / suite
        for folder in ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial"):
            (self.folder / folder).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        mirror, security = mirrors()
        sources = [f"deb [signed-by={KEYRING}] {mirror} {suite} main\n"]
        if suite in WITH_SECURITY and security:
            sources.append(f"deb [signed-by={KEYRING}] {security} {suite}-security main\n")
        (self.folder / "etc/sources.list").write_text("".join(sources))
        # A mirror that is a snapshot has release files which are past their time; signatures are checked all the same.
        (self.folder / "apt.conf").write_text(
            f'Dir "{self.folder}"; Dir::Etc "etc"; Dir::Etc::parts "apt.conf.d"; Dir::State "state";\n'
            f'Dir::State::status "{self.folder}/status"; Dir::Cache "cache"; APT::Architecture "amd64";\n'
            'Acquire::Languages "none"; Acquire::Check-Valid-Until "false"; APT::Sandbox::User "root";\n'
        )
        self.environment = {**os.environ, "APT_CONFIG": str(self.folder / "apt.conf"), "LC_ALL": "C"}

    def update(self):
        run("apt-get", "-q", "update", env=self.environment)

    def kernel_packages(self):
        """Those that hold the files of the newest kernel for clouds, which is small."""
        wanted, found = ["linux-image-cloud-amd64"], []
        while wanted:
            name = wanted.pop()
            text = output_of("apt-cache", "show", "--no-all-versions", name, env=self.environment)
            version = re.search(r"^Version: (.*)$", text, re.M).group(1)
            found.append(f"{name}={version}")
            depends = re.search(r"^Depends: (.*)$", text, re.M)
            for one in re.split(r"[,|] *", depends.group(1)) if depends else []:
                dependency = one.split()[0]
                if re.match(r"linux-(image|modules|binary|base)-[0-9]", dependency):
                    wanted.append(dependency)
        return [package for package in found if re.match(r"linux-(image|modules|binary|base)-[0-9]", package)]

    def download(self, packages, folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run("apt-get", "-q", "download", *packages, env=self.environment, cwd=folder)
        return sorted(folder.glob("*.deb"))


def extract(package, root):
    """Into a root whose /lib is a link."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as archive:
        subprocess.run(["tar", "-x", "-C", root, "--keep-directory-symlink"], stdin=archive.stdout, check=True)
    if archive.returncode != 0:
        raise SystemExit(f"cannot unpack {package}")


def recipe(*parts):
    digest = hashlib.sha256(repr((RECIPE, PACKAGES, DISK, *parts)).encode())
    for file in sorted(file for file in (HERE / "guest").rglob("*") if file.is_file()):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def in_namespaces(*argv):
    """Mounts and processes of the command end with it, also when it is killed."""
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *argv]


def base_of(cache, release):
    """The folder of get_base()."""
    return cache / release / "root"


def get_base(cache, release):
    """The release's root file system without a kernel, from the cache or made now."""
    with open(cache / f"{release}.log", "wb") as log:
        try:
            return build_base(cache, release, log)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"vm: {error}; see {log.name}") from error


def build_base(cache, release, log):
    """A folder with the release's root file system, without a kernel."""
    base, stamp = base_of(cache, release), cache / release / "root.recipe"
    wanted = recipe(release, "root")
    if stamp.exists() and stamp.read_text() == wanted:
        return base
    stamp.unlink(missing_ok=True)
    shutil.rmtree(base, ignore_errors=True)
    base.parent.mkdir(parents=True, exist_ok=True)
    print(f"vm: making the root file system of {release}", flush=True)
    script = "/usr/share/debootstrap/scripts/sid"  # the script of every release since 2015
    run(*in_namespaces("debootstrap", "--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(PACKAGES)}",
                       release, base, mirrors()[0], script), stdout=log, stderr=log)  # fmt: skip
    shell = base / "usr/local/lib/bulkhead-test"
    shell.mkdir(parents=True)
    shutil.copy(HERE / "guest/shell.py", shell)
    shutil.copy(HERE / "guest/shell.service", base / "etc/systemd/system/bulkhead-test-shell.service")
    (base / "etc/systemd/system/sysinit.target.wants").mkdir(exist_ok=True)
    (base / "etc/systemd/system/sysinit.target.wants/bulkhead-test-shell.service").symlink_to(
        "../bulkhead-test-shell.service")  # fmt: skip
    (base / "etc/hostname").write_text("guest\n")
    (base / "etc/fstab").write_text("")
    # Nothing outside may be asked; packages come on a disk.
    (base / "etc/apt/sources.list").write_text("")
    shutil.copytree(HERE / "guest/network", base / "etc/systemd/network", dirs_exist_ok=True)
    run("chroot", base, "systemctl", "enable", "systemd-networkd.service", stdout=log, stderr=log)
    run("chroot", base, "systemctl", "mask", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer",
        "systemd-networkd-wait-online.service", stdout=log, stderr=log)  # fmt: skip
    shutil.rmtree(base / "var/cache/apt/archives")
    (base / "var/cache/apt/archives/partial").mkdir(parents=True)
    stamp.write_text(wanted)
    return base


def build(cache, release, kernel, log):
    folder, suite = cache / release / kernel, RELEASES[release][kernel]
    image = Image(f"{release}:{kernel}", folder / "vmlinuz", folder / "initrd", folder / "disk")
    stamp, wanted = folder / "recipe", recipe(release, kernel, suite)
    if stamp.exists() and stamp.read_text() == wanted:
        return image
    stamp.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    base = build_base(cache, release, log)
    print(f"vm: making the image of {release} with the kernel of {suite}", flush=True)
    archive = Archive(cache, suite)
    archive.update()
    packages = archive.download(archive.kernel_packages(), folder / "packages")
    root = folder / "root"
    run("cp", "-a", base, root)
    for package in packages:
        extract(package, root)
    version = next((root / "usr/lib/modules").iterdir()).name
    modules = root / "usr/lib/modules" / version
    if (modules / "vmlinuz").exists():  # Debian's kernels since Linux 7 have all of theirs in one folder
        shutil.copy(modules / "vmlinuz", root / f"boot/vmlinuz-{version}")
        shutil.copy(modules / "config", root / f"boot/config-{version}")
    run("chroot", root, "depmod", version)
    run("chroot", root, "mkinitramfs", "-o", "/boot/initrd", version, stdout=log, stderr=log)
    shutil.move(next((root / "boot").glob("vmlinu[xz]-*")), image.kernel)
    shutil.move(root / "boot/initrd", image.initrd)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, image.disk, DISK, stdout=log, stderr=log)
    shutil.rmtree(root)
    shutil.rmtree(folder / "packages")
    stamp.write_text(wanted)
    return image


@contextlib.contextmanager
def exclusively(cache):
    """One at a time, of those who make images or run them: a machine takes what a small host has."""
    with open(cache / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def get(cache, name):
    """The image, from the cache or made now."""
    release, kernel = parse(name)
    with open(cache / f"{release}-{kernel}.log", "wb") as log:
        try:
            return build(cache, release, kernel, log)
        except subprocess.CalledProcessError as error:
            raise SystemExit(f"vm: {error}; see {log.name}") from error


def dependencies_of(cache, name):
    """The folder with what the packages depend on and the image has not; see get_dependencies()."""
    release, _ = parse(name)
    return cache / release / "dependencies"


def get_dependencies(cache, name, packages):
    release, _ = parse(name)
    archive = Archive(cache, release)
    if not list((archive.folder / "state/lists").glob("*Packages*")):
        archive.update()
    folder = dependencies_of(cache, name)
    folder.mkdir(exist_ok=True)
    (folder / "partial").mkdir(exist_ok=True)
    run("apt-get", "-q", "install", "-y", "--no-install-recommends", "--download-only",
        "-o", f"Dir::State::status={cache / release / 'root/var/lib/dpkg/status'}",
        "-o", f"Dir::Cache::archives={folder}", *debs.of(packages),
        env=archive.environment, stdout=subprocess.DEVNULL)  # fmt: skip
    for package in folder.glob("bulkhead-*.deb"):
        package.unlink()
