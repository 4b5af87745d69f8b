# SPDX-License-Identifier: Apache-2.0
"""A Debian that boots by its own systemd, on this machine's kernel and in namespaces of its own."""

import re
import shlex
import subprocess
import time
from pathlib import Path

from harness import cgroups

# What a container may not do to the machine below it.
TAKEN = "-sys_module,-sys_boot,-sys_time,-sys_rawio,-syslog,-mknod,-mac_admin,-mac_override"

# Runs with mounts, processes, network, cgroups and names of its own, all of which end with it. {root}: an empty folder.
MOUNTS = r"""
set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir={base},upperdir={upper},workdir={work} {root}
cd {root}
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
if [ -e proc/sysrq-trigger ]; then
  mount --bind proc/sysrq-trigger proc/sysrq-trigger
  mount -o remount,bind,ro proc/sysrq-trigger
fi
"""
SYSTEM = r"""
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf -o nosuid,nodev,noexec,mode=0700 bpf sys/fs/bpf
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=0755 tmpfs dev
for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9; do
  IFS=: read -r name major minor <<EOF
$device
EOF
  mknod -m 0666 dev/$name c $major $minor
done
mkdir dev/pts dev/shm .below
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ip link add eth0 type veth peer name {wire} netns {outside}
ip -n {outside} link set {wire} up
pivot_root . .below
umount -l .below
rmdir .below
exec setpriv --bounding-set {taken} env -i container=bench PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --show-status=no >/dev/null 2>&1 </dev/null
"""


class Container:
    """`base` is a root file system, which stays as it is; what is changed is in `folder`, from one boot to the next. The
    other end of its eth0 is called as the folder is, in the namespace `outside`."""

    def __init__(self, cgroup: Path, base: Path, folder: Path, outside: str):
        self.cgroup, self.process, self.wire, self.outside = cgroup, None, folder.name, outside
        self.places = {"base": base, "upper": folder / "upper", "work": folder / "work", "root": folder / "root"}
        for name in ("upper", "work", "root"):
            self.places[name].mkdir(parents=True)
        self.upper = self.places["upper"]

    def _unshare(self, script, *namespaces):
        words = {name: shlex.quote(str(path)) for name, path in self.places.items()}
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", *namespaces, "sh", "-c",
                script.format(taken=TAKEN, wire=self.wire, outside=self.outside, **words)]

    def run_in_image(self, command):
        """While nothing of it runs: what is installed, and how."""
        done = subprocess.run(self._unshare(MOUNTS + f"exec chroot . sh -c {shlex.quote(command)}", "--net"), text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}")

    def boot(self, timeout=60.0):
        """Returns when systemd says that all is up."""
        cgroups.create(self.cgroup)
        enter = ["sh", "-c", 'echo $$ >"$0"/cgroup.procs; exec "$@"', str(self.cgroup)]
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            [*enter, *self._unshare(MOUNTS + SYSTEM, "--net", "--uts", "--ipc", "--cgroup")], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + timeout
        while True:
            # Before it is systemd, its root is the machine's.
            state = self.run("systemctl", "is-system-running", "--wait").stdout.strip() if self._is_systemd() else "too early"
            if state in ("running", "degraded"):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the container does not boot: {state}")
            time.sleep(0.01)

    def _first_process(self):
        return Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii").split()[:1]

    def _is_systemd(self):
        try:
            return [Path(f"/proc/{pid}/comm").read_text(encoding="ascii") for pid in self._first_process()] == ["systemd\n"]
        except OSError:
            return False

    def run(self, *argv):
        return subprocess.run(["nsenter", "--target", self._first_process()[0], "--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup",
                               *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)  # fmt: skip

    def milliseconds(self, unit, stamp) -> float:
        """From the start of systemd to a moment in the life of a unit, or of systemd itself (no unit)."""
        def of(*argv):
            text = self.run("systemctl", "show", *argv).stdout
            found = re.search(r"=(\d+)$", text.strip())
            if not found or found.group(1) == "0":
                raise RuntimeError(f"systemctl show {' '.join(argv)} says {text!r}")
            return int(found.group(1))
        begun = of("--property=UserspaceTimestampMonotonic")
        return (of(*([unit] if unit else []), f"--property={stamp}") - begun) / 1000

    def end(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None
        cgroups.remove(self.cgroup, timeout=10)
