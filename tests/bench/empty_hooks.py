# SPDX-License-Identifier: Apache-2.0
"""A program of two instructions on both tcx hooks of a device, for as long as this process lives: the hook's own price.

usage: empty_hooks.py DEVICE
"""

import ctypes
import signal
import socket
import struct
import sys

from harness.program_runs import bpf

# linux/bpf.h; a program that returns TCX_NEXT (-1).
PROG_LOAD, LINK_CREATE, SCHED_CLS, TCX_INGRESS, TCX_EGRESS = 5, 28, 3, 46, 47
PROGRAM = struct.pack("<BBhi", 0xb7, 0, 0, -1) + struct.pack("<BBhi", 0x95, 0, 0, 0)


def main():
    device = socket.if_nametoindex(sys.argv[1])
    code, licence = ctypes.create_string_buffer(PROGRAM, len(PROGRAM)), ctypes.create_string_buffer(b"GPL")
    program = bpf(PROG_LOAD, struct.pack("<IIQQ", SCHED_CLS, len(PROGRAM) // 8, ctypes.addressof(code),
                                         ctypes.addressof(licence)))
    for hook in (TCX_INGRESS, TCX_EGRESS):
        bpf(LINK_CREATE, struct.pack("<IIII", program, device, hook, 0))
    print("attached", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
