# SPDX-License-Identifier: Apache-2.0
"""Connections by another's name in a namespace of the attacker's, which are to hide an accomplice's scan of that other."""

import time

from harness import namespaces
from harness.lab import PYTHON
from test_modes import AppTest, policy

PORTS = range(7101, 7105)
SOURCE = 40000
CONTAINER = "10.77.0.88"

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

SERVE = """
import socket, sys, time
listeners = [socket.create_server(("0.0.0.0", int(port))) for port in sys.argv[1:]]
print("ready", flush=True)
time.sleep(60)
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
    def test_of_the_host(self):
        for port in PORTS:
            self.app.serve("tcp", port)
        self.is_told_of(self.app.ip4)

    def test_of_a_container(self):
        """On the host's link, where nothing but its own door is asked."""
        inner = self.app.netns + "-inner"
        namespaces.add(inner)
        self.addCleanup(namespaces.delete, inner)
        try:
            namespaces.batch(self.app.netns, ["link add mv0 link eth0 type macvlan mode bridge", f"link set mv0 netns {inner}"])
        except Exception as error:  # noqa: BLE001 - ip(8) says that there is no such type
            self.skipTest(f"no macvlan here: {error}")
        namespaces.batch(inner, [f"addr add {CONTAINER}/24 dev mv0", "link set mv0 up"])
        serves = self.app.pipe("nsenter", f"--net=/run/netns/{inner}", PYTHON, "-c", SERVE, *map(str, PORTS))
        self.addCleanup(serves.wait)
        self.addCleanup(serves.kill)
        self.assertEqual(serves.stdout.readline(), "ready\n")
        time.sleep(1)  # its door stands
        self.is_told_of(CONTAINER)

    def is_told_of(self, scanned):
        self.controller.apply(policy())
        ports = [str(port) for port in PORTS]
        decoy = self.app.pipe("unshare", "--net", PYTHON, "-c", DECOY, scanned, self.guest.ip4, str(SOURCE), *ports)
        self.addCleanup(decoy.wait)
        self.addCleanup(decoy.kill)
        self.assertEqual(decoy.stdout.readline(), "ready\n")
        time.sleep(1)  # the agent has read of them
        scan = self.guest.run(PYTHON, "-c", SCAN, self.guest.ip4, scanned, str(SOURCE), *ports)
        self.assertEqual(scan.stdout.split(), ["refused"] * len(ports), scan)
        for port in PORTS:
            record = self.await_record(self.controller.violations, dst__ip=scanned, dst__port=port, src__port=SOURCE)
            self.assertEqual(record["src"]["ip"], self.guest.ip4)
