# SPDX-License-Identifier: Apache-2.0
"""The packages as a disk of a machine, with a repository of what they depend on in place of a mirror."""

import subprocess

FOLDER = "/var/tmp/disk"  # in the machine; holds packages, previous and repository
NAMES = {"bulkhead-agent", "bulkhead-controller", "bulkhead-cli"}


def of(folder):
    """Without those that hold the debugger's symbols."""
    return sorted(package for package in folder.glob("bulkhead-*.deb") if "-dbgsym_" not in package.name)


def version_of(folder):
    agent = next(package for package in of(folder) if package.name.startswith("bulkhead-agent_"))
    return subprocess.run(["dpkg-deb", "-f", agent, "Version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def is_older(version, other):
    return subprocess.run(["dpkg", "--compare-versions", version, "lt", other], check=False).returncode == 0


def make_disk(folder, dependencies, packages, previous=None):
    """A tar archive in folder."""
    content = folder / "content"
    for name, files in (("packages", of(packages)), ("previous", of(previous) if previous else []),
                        ("repository", sorted(dependencies.glob("*.deb")))):  # fmt: skip
        (content / name).mkdir(parents=True)
        if files:
            subprocess.run(["cp", *files, content / name], check=True)
    with open(content / "repository/Packages", "wb") as index:
        subprocess.run(["dpkg-scanpackages", "--multiversion", "."], cwd=content / "repository", stdout=index,
                       stderr=subprocess.DEVNULL, check=True)  # fmt: skip
    disk = folder / "packages.tar"
    subprocess.run(["tar", "-C", content, "-cf", disk, "."], check=True)
    subprocess.run(["truncate", "-s", "%1M", disk], check=True)
    return disk


def unpack(vm):
    """apt then finds dependencies as it does on a host that has a mirror."""
    vm.check(f"mkdir -p {FOLDER} && tar -C {FOLDER} -xf /dev/vdb", timeout=600)
    vm.write("/etc/apt/sources.list", f"deb [trusted=yes] file:{FOLDER}/repository ./\n")
    vm.check("apt-get -q update </dev/null", timeout=600)


def left_behind(vm):
    """What a purge should have taken away; what the admin has put below /etc/bulkhead, the tests' policies, stays. A link keeps its
    program, so programs say it all; links alone may be systemd's, which has some of its own on Debian 13."""
    return vm.check("ls -d /sys/fs/bpf/bulkhead /var/lib/bulkhead* /run/bulkhead /usr/sbin/bulkheadd 2>/dev/null; "
                    "find /etc/bulkhead -maxdepth 0 -empty 2>/dev/null; "
                    "find /etc/bulkhead -mindepth 1 -maxdepth 1 ! -name policy 2>/dev/null; "
                    "tc qdisc show 2>/dev/null | grep clsact; "
                    "bpftool prog show | grep ' name bh_'; true").strip()  # fmt: skip
