# SPDX-License-Identifier: Apache-2.0
"""Connections by the host's own name in a namespace of the attacker's, which are to hide an accomplice's scan of the host."""

import time

from harness.lab import PYTHON
from test_modes import AppTest, policy

PORTS = range(7101, 7105)
SOURCE = 40000

# In a namespace of its own, with the addresses of the host and of the accomplice: the connections that the scan looks like.
DECOY = """
import socket, subprocess, sys, time
host, accomplice, source, *ports = sys.argv[1:]
for words in ("link set lo up", f"addr add {host}/32 dev lo", f"addr add {accomplice}/32 dev lo"):
    subprocess.run(["ip", *words.split()], check=True)
listener = socket.create_server((accomplice, int(source)))
kept = []
for port in ports:
    deadline = time.monotonic() + 20  # until the agent knows the namespace's addresses
    while True:
        end = socket.socket()
        end.settimeout(1)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind((host, int(port)))
        try:
            end.connect((accomplice, int(source)))
            break
        except OSError:
            end.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    kept += [end, listener.accept()[0]]
print("ready", flush=True)
sys.stdin.readline()
"""

SCAN = """
import socket, sys
accomplice, host, source, *ports = sys.argv[1:]
for port in ports:
    end = socket.socket()
    end.settimeout(1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.bind((accomplice, int(source)))
    try:
        end.connect((host, int(port)))
        print("open")
    except OSError:
        print("refused")
    end.close()
"""


class HiddenScan(AppTest):
    @classmethod
    def arrange(cls):
        super().arrange()
        for port in PORTS:
            cls.app.serve("tcp", port)

    def test_is_told_of(self):
        self.controller.apply(policy())
        ports = [str(port) for port in PORTS]
        decoy = self.app.pipe("unshare", "--net", PYTHON, "-c", DECOY, self.app.ip4, self.guest.ip4, str(SOURCE), *ports)
        self.assertEqual(decoy.stdout.readline(), "ready\n")
        time.sleep(1)  # the agent has read of them
        scan = self.guest.run(PYTHON, "-c", SCAN, self.guest.ip4, self.app.ip4, str(SOURCE), *ports)
        self.assertEqual(scan.stdout.split(), ["refused"] * len(ports), scan)
        for port in PORTS:
            record = self.await_record(self.controller.violations, dst__port=port, src__port=SOURCE)
            self.assertEqual(record["src"]["ip"], self.guest.ip4)
