# SPDX-License-Identifier: Apache-2.0
"""Runs a program under what a systemd unit takes from it, where no systemd runs: capabilities, system calls, address
families, namespaces, and a file system that is read-only.

usage: as_unit.py UNIT WRITABLE_FOLDER -- PROGRAM [ARGUMENT...]

Read from the unit file itself: CapabilityBoundingSet, SystemCallFilter, RestrictAddressFamilies, RestrictNamespaces,
MemoryDenyWriteExecute, ReadWritePaths that are mount points; ProtectSystem=strict is taken for granted. WRITABLE_FOLDER
stands for the state folder and RuntimeDirectory.
"""
import ctypes
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

CAPABILITIES = """chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct
sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap
mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore""".split()
NAMESPACES = {"mnt": 0x00020000, "cgroup": 0x02000000, "uts": 0x04000000, "ipc": 0x08000000, "user": 0x10000000,
              "pid": 0x20000000, "net": 0x40000000}

CLONE_NEWNS, MS_REC, MS_SLAVE, MS_BIND, MS_SHARED = 0x20000, 16384, 1 << 19, 4096, 1 << 20
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
SYS_mount_setattr, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, 0x8000, 1
PROT_WRITE, PROT_EXEC = 2, 4
SCMP_ACT_ALLOW = 0x7FFF0000
SCMP_CMP_NE, SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ = 1, 4, 7
EPERM, EAFNOSUPPORT = 1, 97

libc = ctypes.CDLL(None, use_errno=True)


def errno_action(number):
    return 0x00050000 | number


def checked(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno() or -result, f"{what}: {os.strerror(ctypes.get_errno() or -result)}")


class Argument(ctypes.Structure):
    """struct scmp_arg_cmp"""
    _fields_ = [("number", ctypes.c_uint), ("compare", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def settings_of(unit):
    settings = {}
    for line in Path(unit).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            settings.setdefault(key, []).append(value.strip())
    return settings


def call_sets():
    """{"@system-service": {"@aio", ..., "ioctl"}, ...} as systemd has them."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", "--no-pager"], stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True, check=True).stdout
    sets = {}
    for line in re.sub(r"\x1b\[[0-9;]*m", "", listed).splitlines():
        if line.startswith("@"):
            current = sets.setdefault(line.strip(), set())
        elif match := re.fullmatch(r" +([@\w-]+)", line):
            current.add(match[1])
    return sets


def calls_of(word, sets):
    return set().union(*(calls_of(member, sets) for member in sets[word])) if word.startswith("@") else {word}


def allowed_calls(settings):
    """systemd.exec(5): the first line says that it is an allow list, later ones add or (~) take away."""
    sets = call_sets()
    allowed = calls_of("@default", sets)
    for line in settings["SystemCallFilter"]:
        named = set().union(*(calls_of(word, sets) for word in line.lstrip("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


class Filter:
    def __init__(self, default):
        self.lib = ctypes.CDLL("libseccomp.so.2")
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.context = ctypes.c_void_p(self.lib.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action, call, *arguments):
        number = self.lib.seccomp_syscall_resolve_name(call.encode())
        if number < 0:  # of another architecture, or newer than the library
            return
        array = (Argument * len(arguments))(*arguments)
        self.lib.seccomp_rule_add_array(self.context, ctypes.c_uint32(action), number, len(arguments), array)

    def load(self):
        checked(self.lib.seccomp_load(self.context), "seccomp_load")


def restrict_calls(settings):
    allowed = allowed_calls(settings)
    main = Filter(errno_action(EPERM))
    for call in sorted(allowed):
        main.rule(SCMP_ACT_ALLOW, call)
    # A second filter: of two, the stricter answer counts.
    more = Filter(SCMP_ACT_ALLOW)
    families = {getattr(socket, name) for name in " ".join(settings.get("RestrictAddressFamilies", [])).split()}
    for family in range(46) if families else ():
        if family not in families:
            more.rule(errno_action(EAFNOSUPPORT), "socket", Argument(0, SCMP_CMP_EQ, family, 0))
    granted = set(" ".join(settings.get("RestrictNamespaces", [])).split())
    if granted:
        more.rule(errno_action(EPERM), "setns", Argument(1, SCMP_CMP_EQ, 0, 0))
        for name, flag in NAMESPACES.items():
            if name not in granted:
                more.rule(errno_action(EPERM), "setns", Argument(1, SCMP_CMP_MASKED_EQ, flag, flag))
                more.rule(errno_action(EPERM), "unshare", Argument(0, SCMP_CMP_MASKED_EQ, flag, flag))
                more.rule(errno_action(EPERM), "clone", Argument(0, SCMP_CMP_MASKED_EQ, flag, flag))
    if settings.get("MemoryDenyWriteExecute") == ["yes"]:
        both = PROT_WRITE | PROT_EXEC
        more.rule(errno_action(EPERM), "mmap", Argument(2, SCMP_CMP_MASKED_EQ, both, both))
        more.rule(errno_action(EPERM), "mprotect", Argument(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC))
    more.load()
    main.load()


def set_read_only(path, read_only, recursive):
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY if read_only else 0, 0 if read_only else MOUNT_ATTR_RDONLY, 0, 0)
    checked(libc.syscall(SYS_mount_setattr, -100, path.encode(), AT_RECURSIVE if recursive else 0, attributes, 32),
            f"mount_setattr {path}")


def protect_files(settings, writable):
    checked(libc.unshare(CLONE_NEWNS), "unshare")
    checked(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None), "make / a slave")
    checked(libc.mount(writable.encode(), writable.encode(), None, MS_BIND | MS_REC, None), f"bind {writable}")
    set_read_only("/", True, True)
    set_read_only("/proc", False, False)
    named = [word.lstrip("-+") for word in " ".join(settings.get("ReadWritePaths", [])).split()]
    for path in [writable, *filter(os.path.ismount, named)]:
        set_read_only(path, False, path == writable)


def drop_capabilities(settings):
    kept = {word.removeprefix("CAP_").lower() for word in settings["CapabilityBoundingSet"][0].split()}
    for number, name in enumerate(CAPABILITIES):
        if name not in kept:
            checked(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), f"drop {name}")


def main():
    unit, writable, dashes, *command = sys.argv[1:]
    assert dashes == "--", __doc__
    settings = settings_of(unit)
    protect_files(settings, writable)
    drop_capabilities(settings)
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no new privileges")
    restrict_calls(settings)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
