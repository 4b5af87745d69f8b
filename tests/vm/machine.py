# SPDX-License-Identifier: Apache-2.0
"""A virtual machine in software emulation, and the channel by which it is told what to do."""

import itertools
import json
import os
import shlex
import socket
import subprocess
import time
from pathlib import Path

BOOT_SECONDS = 600  # emulated, on a machine that does other things besides
# Without CMPXCHG16B: QEMU 7.2 emulates it with flags that come out wrong now and then, and the allocator of Linux since
# 6.5 (slub, this_cpu_try_cmpxchg128) then ends in a double fault.
CPU = "max,-cx16"
MEMORY = "1536M"
CPUS = 2


def wait_for(condition, what, timeout=120):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.5)


class Answer:
    def __init__(self, command, status, output):
        self.command, self.status, self.output = command, status, output

    def __repr__(self):
        return f"{self.command}\n-> {self.status}\n{self.output}"

    def check(self):
        if self.status != 0:
            raise AssertionError(repr(self))
        return self


class Machine:
    """Boots an image (see images.py) of which nothing is changed: what is written goes when the machine does. Machines that
    run at the same time have numbers of their own."""

    def __init__(self, image, folder, tap=None, kernel_options="", disks=(), number=1):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.console = self.folder / "console.log"
        self._ids = itertools.count(1)
        self._answers, self._pending, self.boots = {}, b"", []
        self._shell = self._listen(self.folder / "shell.socket")
        arguments = [
            "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-machine", "q35", "-cpu", CPU,
            "-smp", str(CPUS), "-m", MEMORY, "-display", "none", "-nodefaults", "-no-user-config",
            "-kernel", image.kernel, "-initrd", image.initrd,
            "-append", f"root=/dev/vda rw console=ttyS0 quiet panic=-1 net.ifnames=0 {kernel_options}",
            "-serial", f"file:{self.console}",
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=shell,path={self.folder}/shell.socket",
            "-device", "virtserialport,chardev=shell,name=bulkhead.test",
            "-device", "virtio-rng-pci",
            "-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on",
        ]  # fmt: skip
        for disk in disks:
            arguments += ["-drive", f"file={disk},format=raw,if=virtio,readonly=on"]
        if tap:
            arguments += ["-netdev", f"tap,id=net,ifname={tap},script=no,downscript=no",
                          "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:77:00:{number:02x},romfile="]  # fmt: skip
        with open(self.folder / "qemu.log", "wb") as log:
            # The temporary disk is as large as what is written to it, and deleted from the beginning.
            self._process = subprocess.Popen(
                list(map(str, arguments)), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "TMPDIR": str(self.folder)},
            )  # fmt: skip
        self._shell.settimeout(60)
        try:
            self._shell, listening = self._shell.accept()[0], self._shell
        except OSError as error:
            self.close()
            raise AssertionError(f"QEMU did not start: {(self.folder / 'qemu.log').read_text()}") from error
        listening.close()

    @staticmethod
    def _listen(path):
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen(1)
        return listening

    def close(self):
        self._process.kill()
        self._process.wait()
        self._shell.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _read(self, deadline):
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError(f"the machine does not answer; its console ends with:\n{self.console_tail()}")
        self._shell.settimeout(remaining)
        try:
            data = self._shell.recv(1 << 20)
        except TimeoutError:
            return
        if not data:
            raise AssertionError(f"QEMU ended; the console ends with:\n{self.console_tail()}")
        *lines, self._pending = (self._pending + data).split(b"\n")
        for line in lines:
            try:
                answer = json.loads(line)
            except ValueError:
                continue  # what a machine that was reset had begun to say
            if "boot" in answer:
                self.boots.append(answer["boot"])
            else:
                self._answers[answer["id"]] = answer

    def console_tail(self, lines=40):
        return "\n".join(self.console.read_text(errors="replace").splitlines()[-lines:])

    def wait_for_boot(self, count=1, timeout=BOOT_SECONDS):
        """Until it has booted for the count-th time, and systemd has nothing left to start."""
        deadline = time.monotonic() + timeout
        while len(self.boots) < count:
            self._read(deadline)
        return self.run("systemctl is-system-running --wait", timeout=deadline - time.monotonic())

    def start(self, command, timeout=600):
        """Begins a command; finish() has its answer."""
        number = next(self._ids)
        self._shell.settimeout(30)
        self._shell.sendall(json.dumps({"id": number, "command": command, "timeout": timeout}).encode() + b"\n")
        return number, command, time.monotonic() + timeout + 60

    def finish(self, started):
        number, command, deadline = started
        while number not in self._answers:
            self._read(deadline)
        answer = self._answers.pop(number)
        return Answer(command, answer["status"], answer["output"])

    def run(self, command, timeout=120):
        return self.finish(self.start(command, timeout))

    def check(self, command, timeout=120):
        return self.run(command, timeout).check().output

    def write(self, path, text, mode="644"):
        self.check(f"mkdir -p $(dirname {path}) && printf %s {shlex.quote(text)} >{path} && chmod {mode} {path}")
